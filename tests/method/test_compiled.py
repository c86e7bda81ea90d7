"`machine: {compile: true}`: ReLU, norm and dropout as one function, and the training it is for."

import pandas as pd
import pytest
import torch
from torch import nn

from ada_repro.core import named_generator
from ada_repro.data.phantom import phantom_slices
from ada_repro.data.slices import Slices
from ada_repro.method.compiled import Tail, compiled_twin, compiler_fault, tail
from ada_repro.method.unet import UNet
from ada_repro.pipeline.kernel import numerics
from ada_repro.pipeline.stage import read_job
from ada_repro.train import choices
from ada_repro.train.choices import check_machine
from ada_repro.train.training import new_state, step, train_epoch

ASKED = ["--dataset", "phantom", "--arms", "none", "--folds", "paper", "--seeds", "0", "--profile", "smoke"]
MODEL = {"width": 4, "dropout": 0.1, "bn_momentum": 0.4, "seed": 0}


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    "A compiler, if there is one, that leaves its files in a folder of the test's own."
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    if compiler_fault():
        pytest.skip(f"needs a C++ compiler ({compiler_fault()})")


@pytest.mark.parametrize("far", [0, 100, 10_000])
@pytest.mark.parametrize("spread", [0.1, 1, 30])
def test_the_formula_is_that_of_the_layers(far, spread):
    generator = named_generator("formula", far)
    x = far + spread * torch.randn(4, 3, 8, 10, generator=generator)
    weight, bias = torch.randn(2, 3, generator=generator)
    factor = (torch.rand(4, 3, 1, 1, generator=generator) < 0.7) / 0.7
    ours = tail(x, weight, bias, torch.full((3,), 0.97 * far), factor, 1e-5)
    y = x.double().relu()
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
    expected = nn.functional.batch_norm(y, None, None, weight.double(), bias.double(), True) * factor
    near = 1e-4 * max(1, 0.1 * far / spread)  # digits that float32 has left for what varies
    assert (ours[0] - expected).abs().max() < near * 10
    assert torch.allclose(ours[1].double(), mean, rtol=1e-5, atol=1e-5 * spread)
    assert torch.allclose(ours[2].double(), variance, rtol=near * 10)


def test_a_channel_that_is_always_zero_stays_finite():
    x = torch.full((2, 1, 4, 4), -1.0, requires_grad=True)
    out, mean, variance = tail(x, torch.ones(1), torch.zeros(1), torch.zeros(1), torch.ones(2, 1, 1, 1), 1e-5)
    out.sum().backward()
    assert not out.any() and not mean and not variance and x.grad.isfinite().all()


def test_the_twin_has_no_parameters_of_its_own():
    model = UNet(4)
    twin = compiled_twin(model)
    ours, theirs = model.state_dict(keep_vars=True), dict(twin.named_parameters()) | dict(twin.named_buffers())
    assert {id(value) for value in ours.values()} == {id(value) for value in theirs.values()}
    assert sum(isinstance(part, Tail) for part in twin.modules()) == 14
    assert not any(isinstance(part, (nn.ReLU, nn.Dropout2d)) for part in twin.modules())
    assert sum(isinstance(part, nn.ReLU) for part in model.modules()) == 14, "the network keeps its own"


def test_layers_in_another_order_are_left_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout2d(0.1))
    assert not any(isinstance(part, Tail) for part in compiled_twin(model).modules())


def taught(twin, steps, seed=0):
    "Losses, and the state after some steps."
    images, raters = phantom_slices(8, px=40, spacing_mm=1.0, seed=0)
    state, target = new_state(**MODEL), raters[:, :1]
    state.model.train()
    torch.manual_seed(seed)
    network = compiled_twin(state.model) if twin else None
    return [step(state, images, target, network).item() for _ in range(steps)], state


def test_a_step_is_that_of_the_layers(compiler, monkeypatch):
    monkeypatch.setattr("ada_repro.train.training.fast_bf16", lambda device: False)
    (plain, expected), (twins, state) = taught(twin=False, steps=1), taught(twin=True, steps=1)
    assert twins == pytest.approx(plain, abs=1e-5)
    for ours, theirs in zip(state.model.parameters(), expected.model.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() <= 1e-3 * theirs.grad.norm() + 1e-6
    for name, value in expected.model.named_buffers():
        assert torch.allclose(state.model.get_buffer(name), value, rtol=1e-4, atol=1e-5), name


def test_the_same_training_up_to_rounding(compiler):
    plain, twins = taught(twin=False, steps=12)[0], taught(twin=True, steps=12)[0]
    others = taught(twin=False, steps=12, seed=1)[0]  # other channels are dropped
    assert max(abs(a - b) for a, b in zip(plain, twins, strict=True)) < max(
        abs(a - b) for a, b in zip(plain, others, strict=True)
    )
    assert taught(twin=True, steps=12)[0] == twins, "to the bit"


def test_an_epoch_goes_through_the_twin_but_for_its_short_batch(compiler, monkeypatch):
    monkeypatch.setattr("ada_repro.train.training.fast_bf16", lambda device: False)
    images, raters = phantom_slices(10, px=40, spacing_mm=1.0, seed=0)
    data, seen = Slices(images, raters, pd.DataFrame({"spacing_mm": [1.0] * 10})), []
    plain = train_epoch(new_state(**MODEL), data, None, 0, 4, {}, "off")
    monkeypatch.setenv("ADA_REPRO_COMPILE", "1")
    forward = Tail.forward
    monkeypatch.setattr(Tail, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    assert train_epoch(new_state(**MODEL), data, None, 0, 4, {}, "off") == pytest.approx(plain, abs=1e-3)
    assert seen == [4] * 28


@pytest.mark.parametrize("words", [[], ["--compile"]])
def test_a_stage_is_told(words):
    job = read_job("check", [*ASKED, *words])
    assert job.compile == bool(words) and not job.exact and "compile" not in job.given
    assert ("ADA_REPRO_COMPILE" in numerics(job.threads, job.exact, job.compile)) == bool(words)


def test_what_cannot_be_is_refused(monkeypatch):
    check_machine(threads=1, compile=False)
    with pytest.raises(ValueError, match="machine.compile must be one of"):
        check_machine(threads=1, compile="yes")
    with pytest.raises(ValueError, match="take it out, or machine.exact"):
        check_machine(threads=1, exact=True, compile=True)
    monkeypatch.setattr(choices, "compiler_fault", lambda: "No working C++ compiler found")
    with pytest.raises(ValueError, match="Install g"):
        check_machine(threads=1, compile=True)


def test_a_machine_without_a_compiler_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/no/such/compiler"))
    torch.compiler.reset()
    compiler_fault.cache_clear()
    try:
        assert "/no/such/compiler" in compiler_fault() and "\n" not in compiler_fault()
    finally:
        compiler_fault.cache_clear()
        torch.compiler.reset()
