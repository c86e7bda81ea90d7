"What must hold for every method of the registry."

import copy

import captum.attr as ca
import numpy as np
import pytest
import torch
from torch import nn

from ada_repro.core import named_generator
from ada_repro.method.saliency import SALIENCY, ForegroundScore, check_hookable, saliency_map
from ada_repro.method.unet import UNet

METHODS = list(SALIENCY)
HOOKED = [m for m in METHODS if hasattr(SALIENCY[m], "hooks_relus")]


@pytest.fixture
def scene():
    torch.manual_seed(0)
    model = UNet(width=4, dropout=0.3)
    image = torch.randn(3, 1, 24, 24, generator=named_generator("scene"))
    target = torch.zeros(3, 24, 24, dtype=torch.bool)
    target[:, 8:14, 6:15] = True
    model.train()(image)  # batch-norm statistics that are not their initial values
    return model, image, target


@pytest.mark.parametrize("method", METHODS)
def test_shape_type_and_sign(scene, method):
    maps = saliency_map(*scene, method)
    assert maps.shape == (3, 24, 24) and maps.dtype == torch.float32
    assert (maps >= 0).all() and maps.isfinite().all() and not maps.requires_grad


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_everything_as_it_was(scene, method, training):
    model, image, target = scene
    model.train(training)
    model.down[1].eval()  # a mixed state must survive too
    modes = [m.training for m in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    random, kept = torch.get_rng_state(), image.clone()
    saliency_map(model, image, target, method)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(image, kept) and not image.requires_grad
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(m, h) for m in model.modules() for h in hooks)


@pytest.mark.parametrize("method", METHODS)
def test_equals_captum_by_hand(scene, method):
    model, image, target = scene
    model.eval()
    weight, x = target[:, None].float(), image.clone().requires_grad_()
    score = lambda x: (model(x) * weight).sum((1, 2, 3))
    module = ForegroundScore(model, weight)
    layer = model.bottleneck[5]
    by_hand = {
        "vanilla": lambda: ca.Saliency(score).attribute(x, abs=False),
        "input_x_gradient": lambda: ca.InputXGradient(score).attribute(x),
        "guided_backprop": lambda: ca.GuidedBackprop(module).attribute(x),
        "gradcam": lambda: nn.functional.interpolate(
            ca.LayerGradCam(score, layer).attribute(x).relu(), size=(24, 24), mode="bilinear"
        ),
        "guided_gradcam": lambda: (
            ca.GuidedBackprop(module).attribute(x)
            * nn.functional.interpolate(
                ca.LayerGradCam(score, layer).attribute(x).relu(), size=(24, 24), mode="bilinear"
            )
        ),
        "deconvnet": lambda: ca.Deconvolution(module).attribute(x),
    }
    if method not in by_hand:
        pytest.skip("compared with its formula, or a method of your own")
    expected = by_hand[method]().detach().squeeze(1)
    torch.testing.assert_close(saliency_map(model, image, target, method), expected.abs())
    torch.testing.assert_close(saliency_map(model, image, target, method, sign="signed"), expected)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_is_explained_alone(scene, method):
    model, image, target = scene
    together = saliency_map(model, image, target, method)
    alone = torch.cat([saliency_map(model, image[i : i + 1], target[i : i + 1], method) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=5e-5 * float(together.max()))


@pytest.mark.parametrize("method", METHODS)
def test_works_where_gradients_are_off_or_bf16_is_on(scene, method):
    expected = saliency_map(*scene, method)
    with torch.no_grad():
        torch.testing.assert_close(saliency_map(*scene, method), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(saliency_map(*scene, method), expected)


def gradients(model, weight, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad((model(x) * weight).sum(), x)[0]


def integrated_by_hand(model, weight, x):
    at, share = np.polynomial.legendre.leggauss(16)
    return x * sum(
        float(s) / 2 * gradients(model, weight, x * float(a + 1) / 2) for a, s in zip(at, share, strict=True)
    )


def smooth_by_hand(model, weight, x):
    g, total = named_generator("smoothgrad"), 0
    noise = torch.randn((8, 1, 1, 24, 24), generator=g)
    for n in noise:
        total = total + gradients(model, weight, torch.stack([i + 0.15 * (i.max() - i.min()) * n[0] for i in x]))
    return total / 8


def plus_plus_by_hand(model, weight, x):
    "The weights as the paper writes them: second and third derivative of the exponential of the score."
    kept = []
    hook = model.bottleneck[5].register_forward_hook(lambda m, i, o: kept.append(o))
    score = (model(x) * weight).sum()
    hook.remove()
    a, g = kept[0], torch.autograd.grad(score, kept[0])[0]
    alpha = torch.where(g > 0, g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3), 0)
    cam = ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1, keepdim=True).relu()
    return nn.functional.interpolate(cam, size=(24, 24), mode="bilinear")


def occlusion_by_hand(model, weight, x):
    fall, score = torch.zeros_like(x), lambda x: (model(x) * weight).sum((1, 2, 3))
    for r in range(0, 24, 3):
        for c in range(0, 24, 3):
            hidden = x.clone()
            hidden[..., r : r + 3, c : c + 3] = 0
            fall[..., r : r + 3, c : c + 3] = (score(x) - score(hidden)).reshape(-1, 1, 1, 1)
    return fall


@pytest.mark.parametrize(
    "method, by_hand",
    [
        ("integrated_gradients", integrated_by_hand),
        ("smoothgrad", smooth_by_hand),
        ("gradcam_plus_plus", plus_plus_by_hand),
        ("occlusion", occlusion_by_hand),
    ],
)
def test_equals_its_formula(scene, method, by_hand):
    model, image, target = scene
    expected = by_hand(model.eval(), target[:, None].float(), image).detach().squeeze(1)
    assert expected.abs().max() > 0
    torch.testing.assert_close(
        saliency_map(model, image, target, method, sign="signed"),
        expected,
        rtol=1e-4,
        atol=1e-5 * float(expected.abs().max()),
    )


def test_integrated_gradients_add_up(scene):
    "Completeness: the map sums to the score above that of a grey image, as far as sixteen steps allow."
    model, image, target = scene
    score = ForegroundScore(model.eval(), target[:, None].float())
    gap = (score(image) - score(image * 0)).detach()
    total = saliency_map(model, image, target, "integrated_gradients", sign="signed").sum((1, 2))
    torch.testing.assert_close(total, gap, rtol=0.1, atol=0.1 * float(gap.abs().max()))


def test_vanilla_by_finite_differences(scene):
    model, image, target = scene
    model.eval().double()
    score = ForegroundScore(model, target[:, None].double())
    with torch.no_grad():
        nudge = torch.zeros_like(image[:1]).double()
        nudge[0, 0, 10, 10] = 1e-6
        slope = (
            ForegroundScore(model, target[:1, None].double())(image[:1].double() + nudge) - score(image.double())[:1]
        ) / 1e-6
    model.float()
    torch.testing.assert_close(
        saliency_map(model, image, target, "vanilla")[0, 10, 10], slope.abs().float()[0], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("method", HOOKED)
def test_guided_is_not_plain(scene, method):
    assert not torch.allclose(saliency_map(*scene, "vanilla"), saliency_map(*scene, method))


class OneFunctionalReLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottleneck = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)], nn.ReLU())

    def forward(self, x):
        return torch.relu(self.bottleneck(x))


@pytest.mark.parametrize("method", HOOKED)
def test_a_functional_relu_is_refused(scene, method):
    _, image, target = scene
    with pytest.raises(ValueError, match="1 ReLUs of the network are not nn.ReLU modules"):
        saliency_map(OneFunctionalReLU(), image, target, method)


class HiddenReLU(nn.Module):
    def forward(self, x):
        return torch.relu(x)


def test_the_methods_that_need_relu_modules_are_marked(scene):
    "The same network with functional ReLUs: the maps that change are those of the marked methods."
    model, image, target = scene
    twin = copy.deepcopy(model.eval())
    for part in (*twin.down, twin.bottleneck, *twin.up):
        part[1], part[5] = HiddenReLU(), HiddenReLU()
    maps = {
        m: [
            SALIENCY[m](
                ForegroundScore(net, target[:, None].float()), image.clone().requires_grad_(), net.bottleneck[5]
            )
            for net in (model, twin)
        ]
        for m in METHODS
    }
    assert [m for m, (a, b) in maps.items() if not torch.allclose(a, b)] == HOOKED


def test_our_network_is_hookable(scene):
    check_hookable(scene[0].eval(), scene[1])


@pytest.mark.parametrize("explain, pixels", [("all", 24 * 24), ("target", 6 * 9)])
def test_what_is_explained(explain, pixels):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.cam = nn.Identity()

        def forward(self, x):
            return self.cam(3 * x)

    image, target = torch.ones(1, 1, 24, 24), torch.zeros(1, 24, 24, dtype=torch.bool)
    target[:, 8:14, 6:15] = True
    maps = saliency_map(Sum(), image, target, "vanilla", explain=explain, layer="cam")
    assert (maps == 3).sum() == pixels and maps.sum() == 3 * pixels


def test_unknown_names_are_one_line(scene):
    with pytest.raises(ValueError, match="grdcam.*known are vanilla"):
        saliency_map(*scene, "grdcam")
