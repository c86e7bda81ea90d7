"`machine: {exact: true}`: the same bits, whoever made the processor."

import shutil
import subprocess
import sys

import pytest
import torch
from sharing import ENV

from ada_repro.core import best_device
from ada_repro.pipeline.kernel import numerics
from ada_repro.pipeline.stage import read_job
from ada_repro.train.augment import is_exact, product, spread_matrix
from ada_repro.train.choices import check_machine
from ada_repro.train.training import fast_bf16

ASKED = ["--dataset", "phantom", "--arms", "none", "--folds", "paper", "--seeds", "0", "--profile", "smoke"]
EXACTLY = numerics(threads=1, exact=True)

# What MKL asks in order to know whether Intel made the processor, answered with yes.
INTEL = "int mkl_serv_intel_cpu_true(void){return 1;} int mkl_serv_intel_cpu(void){return 1;}"

WEIGHTS = """
import hashlib
import torch
from ada_repro.core import named_generator
from ada_repro.train.augment import augment, draw
from ada_repro.train.training import new_state, step

state = new_state(width=4, dropout=0.1, bn_momentum=0.4, seed=0)
images = torch.randn(8, 1, 40, 40, generator=named_generator("images"))
for number in range(3):
    draws = draw(8, 40, named_generator("draws", number), spacing_mm=1.0, elastic_p=1.0)
    moved, targets = augment(images, images > 1, draws)
    step(state, moved, targets)
bits = b"".join(value.contiguous().numpy().tobytes() for value in state.model.state_dict().values())
print(hashlib.sha256(bits).hexdigest(), torch.backends.cpu.get_cpu_capability())
"""


def weights(**env):
    "Hash of the weights after some steps in a process of its own, and the instructions it used."
    done = subprocess.run([sys.executable, "-c", WEIGHTS], env=ENV | env, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(scope="module")
def intel(tmp_path_factory):
    "A library that lets MKL take any processor for an Intel."
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("needs Linux and gcc")
    folder = tmp_path_factory.mktemp("intel")
    (folder / "intel.c").write_text(INTEL)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "intel.so", "intel.c"], cwd=folder, check=True)
    return str(folder / "intel.so")


def test_who_made_the_processor_moves_no_bit(intel):
    here = weights(**EXACTLY)
    if here[1] == "DEFAULT":
        pytest.skip("needs a processor with AVX2")
    assert here[1] == "AVX2"
    assert weights(**EXACTLY, LD_PRELOAD=intel) == here


def test_bits_that_hang_on_the_processor_are_not_used(monkeypatch):
    monkeypatch.setenv("ADA_REPRO_EXACT", "1")
    assert not fast_bf16("cpu") and best_device() == "cpu"


def test_our_product_is_the_matrix_product(monkeypatch):
    left, right = torch.rand(7, 5), torch.rand(3, 2, 5, 4)
    plain = product(left, right)
    monkeypatch.setenv("ADA_REPRO_EXACT", "1")
    ours = product(left, right)
    assert is_exact() and ours.shape == (3, 2, 7, 4)
    assert torch.allclose(ours, plain, atol=1e-6)
    expected = torch.zeros(3, 2, 7, 4, dtype=torch.float64)
    for k in range(5):
        expected += left.double()[:, k, None] * right.double()[..., k, None, :]
    assert torch.allclose(ours.double(), expected, atol=1e-6)


def test_the_bumps_are_rounded_from_more_digits():
    for size, sigma in ((40, 1.0), (80, 2.0), (200, 4.0)):
        nodes = torch.arange(-3, size / sigma + 4, dtype=torch.float64) * sigma
        exact = torch.exp(-((torch.arange(size)[:, None] - nodes) ** 2) / (2 * sigma**2))
        exact /= exact.norm(dim=1, keepdim=True)
        assert (spread_matrix(size, sigma) - exact).abs().max() < 1e-7


@pytest.mark.parametrize("words", [[], ["--threads", "1"], ["--threads", "1", "--exact"]])
def test_a_stage_is_told(words):
    job = read_job("check", [*ASKED, *words])
    assert job.exact == ("--exact" in words) and job.threads == (1 if words else 0)
    assert "exact" not in job.given


def test_what_cannot_be_is_refused():
    check_machine(threads=2, exact=True)
    check_machine(threads=0, exact=False)
    with pytest.raises(ValueError, match="set machine.threads"):
        check_machine(threads=0, exact=True)
    with pytest.raises(ValueError, match="machine.exact"):
        check_machine(threads=1, exact="yes")
