"What must hold for every method of the registry."

import copy
from itertools import product

import captum.attr as ca
import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from ada_repro.core import named_generator
from ada_repro.method.hooks import check_hookable
from ada_repro.method.saliency import SALIENCY, ForegroundScore, saliency_map
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
    assert not any(getattr(module, hook) for module, hook in product(model.modules(), hooks))


@pytest.mark.parametrize("method", METHODS)
def test_equals_captum_by_hand(scene, method):
    model, image, target = scene
    model.eval()
    weight, x = target[:, None].float(), image.clone().requires_grad_()

    def score(x):
        return (model(x) * weight).sum((1, 2, 3))

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
    fall, score = torch.zeros_like(x), ForegroundScore(model, weight)
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
    with pytest.raises(ValueError, match=r"1 rectifiers of the network \(relu\) are not nn.ReLU modules"):
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


@pytest.mark.parametrize("method", METHODS)
def test_in_bfloat16_the_maps_are_nearly_the_same(scene, method):
    exact = saliency_map(*scene, method)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(saliency_map(*scene, method), exact), "what surrounds the call does not matter"
    rounded = saliency_map(*scene, method, precision="bfloat16")
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert (rounded - exact).abs().mean() < 0.2 * exact.abs().max()


# What is refused, and what is not
def one_line(*args, **options):
    "What `saliency_map` says to what it does not take."
    with pytest.raises(ValueError) as e:
        saliency_map(*args, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_unknown_names_are_one_line(scene):
    assert "'grdcam'; known are vanilla" in one_line(*scene, "grdcam")
    assert "unhashable" not in one_line(*scene, ["vanilla"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "bad, words",
    [
        ({"sign": "abs"}, "sign must be one of 'absolute', 'signed', not 'abs'"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16', not 'float16'"),
        ({"explain": "prediction"}, "explain must be one of 'target', 'pred', 'all', not 'prediction'"),
        ({"layer": "bottleneck.9"}, "layer must be the name of a module of the network, not 'bottleneck.9'"),
    ],
)
def test_wrong_choices(scene, method, bad, words):
    assert words in one_line(*scene, method, **bad)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_images_and_targets(scene, method):
    model, image, target = scene
    nan = image.clone()
    nan[1, 0, 2, 3] = torch.nan
    images = [image[0], image.repeat(1, 2, 1, 1), nan, image.numpy(), (image * 10).int()]
    targets = [target[:, :12], target[:2], target * 0.7, target.repeat(2, 1, 1), target[:, None].repeat(1, 2, 1, 1)]
    for x in images:
        assert one_line(model, x, target, method).startswith("image must ")
    for y in targets:
        assert one_line(model, image, y, method).startswith("target must ")
    assert one_line(lambda x: x, image, target, method).startswith("model must be a torch.nn.Module")


@pytest.mark.parametrize("method", METHODS)
def test_good_arguments_of_every_kind(scene, method):
    model, image, target = scene
    expected = saliency_map(model, image, target, method)
    for y in (target[:, None], target.float(), target.byte(), target[:, None].long(), target.half()):
        assert torch.equal(saliency_map(model, image, y, method), expected)
    half = image.half()
    assert torch.equal(saliency_map(model, half, target, method), saliency_map(model, half.float(), target, method))
    assert torch.equal(saliency_map(model, image.double(), target, method), expected)


class Returns(nn.Module):
    "A network whose output is made into something else."

    def __init__(self, channels, change):
        super().__init__()
        self.relu, self.head, self.change = nn.ReLU(), nn.Conv2d(1, channels, 3, padding=1), change

    def forward(self, x):
        return self.change(self.head(self.relu(x)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "channels, change, words",
    [
        (2, lambda y: y, "not the shape (3, 2, 24, 24)|not the shape (1, 2, 24, 24)"),
        (1, lambda y: {"out": y}, "not a dict"),
        (1, lambda y: (y, y), "not a tuple"),
        (1, lambda y: [y], "not a list"),
        (1, lambda y: y[:, 0], "not the shape (1, 24, 24)"),
        (1, lambda y: y[..., ::2, ::2], "not the shape (1, 1, 12, 12)"),
        (1, lambda y: y.sigmoid(), "not probabilities; leave out its last sigmoid"),
        (2, lambda y: y.softmax(1)[:, 1:], "not probabilities; leave out its last softmax"),
        (2, lambda y: y.softmax(1)[:, 1].unsqueeze(1), "not probabilities; leave out its last softmax"),
        (1, lambda y: 1 / (1 + torch.exp(-y)), "not probabilities; leave out its last sigmoid"),
        (1, lambda y: 1 - y.sigmoid(), "not probabilities; leave out its last sigmoid"),
        (1, lambda y: (y.sigmoid() + 1e-6).log(), "not probabilities; leave out its last sigmoid"),
        (1, lambda y: (y.sigmoid() + y.flip(3).sigmoid().flip(3)) / 2, "not probabilities; leave out its last sigmoid"),
        (1, lambda y: F.pad(y.sigmoid()[..., 1:-1], (1, 1)), "not probabilities; leave out its last sigmoid"),
        (
            1,
            lambda y: F.interpolate(F.hardsigmoid(y), scale_factor=1.0),
            "not probabilities; leave out its last hardsigmoid",
        ),
        (1, lambda y: y.to(torch.complex64), "not torch.complex64"),
    ],
)
def test_what_is_not_one_logit_a_pixel(scene, method, channels, change, words):
    _, image, target = scene
    network = Returns(channels, change)
    for explain in ("target", "pred"):
        line = one_line(network, image, target, method, explain=explain, layer="relu")
        assert line.startswith("model must return ") and any(w in line for w in words.split("|"))
    assert network.training


@pytest.mark.parametrize("method", METHODS)
def test_one_channel_of_two_is_explained(scene, method):
    _, image, target = scene
    assert saliency_map(Returns(2, lambda y: y[:, 1:]), image, target, method, layer="relu").shape == target.shape


# Rectifiers
class ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (x > 0)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x > 0)


def overwritten(x):
    x = x.clone()
    x[x < 0] = 0
    return x


F = nn.functional


class Leaky(nn.ReLU):
    def forward(self, x):
        return F.leaky_relu(x, 0.1)


class Ending(nn.Sequential):
    def forward(self, x):
        return super().forward(x).relu_()


class SwishByHand(torch.autograd.Function):
    "As some libraries write it to save memory."

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        gate = ctx.saved_tensors[0].sigmoid()
        return gradient * gate * (1 + ctx.saved_tensors[0] * (1 - gate))


REFUSED = {
    "relu": torch.relu,
    "relu_": lambda x: x.clone().relu_(),
    "F.relu": F.relu,
    "F.relu6": F.relu6,
    "nn.ReLU6": nn.ReLU6(),
    "hardtanh": F.hardtanh,
    "clamp": lambda x: x.clamp(min=0),
    "clamp 0 6": lambda x: x.clamp(0, 6),
    "clamp_": lambda x: x.clone().clamp_(min=0),
    "clip": lambda x: x.clip(min=0),
    "clamp by a tensor": lambda x: x.clamp(min=torch.zeros(())),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "max": lambda x: torch.max(x, torch.zeros(())),
    "fmax": lambda x: torch.fmax(x, torch.zeros(())),
    "minimum": lambda x: -torch.minimum(-x, torch.zeros_like(x)),
    "leaky maximum": lambda x: torch.maximum(x, 0.1 * x),
    "where": lambda x: torch.where(x > 0, x, 0),
    "leaky where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0),
    "overwritten": overwritten,
    "product": lambda x: x * (x > 0),
    "half of the sum": lambda x: (x + x.abs()) / 2,
    "half of the root": lambda x: (x + (x * x).sqrt()) / 2,
    "half of the root of a power": lambda x: (x + (x.pow(2) + 1e-6).sqrt()) / 2,
    "largest of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
    "max of a stack": lambda x: torch.stack([torch.zeros_like(x), x]).max(0).values,
    "sorted stack": lambda x: torch.stack([x, torch.zeros_like(x)], 1).sort(1).values[:, 1],
    "top of a stack": lambda x: torch.cat([x, torch.zeros_like(x)]).view(2, *x.shape).topk(1, 0).values[0],
    "nn.Hardtanh(0, inf)": nn.Hardtanh(0, float("inf")),
    "clamp_min_": lambda x: x.clone().clamp_min_(0),
    "clamp_max of the negative": lambda x: -(-x).clamp_max(0),
    "threshold_": lambda x: F.threshold_(x.clone(), 0, 0),
    "index_put": lambda x: x.index_put((x < 0,), torch.zeros(())),
    "masked_scatter": lambda x: x.masked_scatter(x < 0, torch.zeros_like(x)),
    "product with the sign": lambda x: x * (x.sign() + 1) / 2,
    "product with a detached comparison": lambda x: x * (x.detach() > 0).float(),
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "a leaky subclass of nn.ReLU": Leaky(),
    "inside a subclass of nn.Sequential": Ending(nn.Conv2d(4, 4, 1)),
    "traced": torch.jit.trace(lambda x: x.relu(), torch.randn(1, 4, 24, 24)),
    "compiled": torch.compile(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), backend="aot_eager"),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold": nn.Threshold(0.1, 0),
    "by hand": ByHand.apply,
    "leaky_relu": F.leaky_relu,
    "nn.PReLU": nn.PReLU(),
    "rrelu": F.rrelu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "swish by hand": lambda x: x * torch.sigmoid(50 * x),
    "swish, its halves scaled": lambda x: (2 * x) * (x + 1).sigmoid(),
    "hardswish by hand": lambda x: x * F.hardsigmoid(9 * x),
    "gelu by erf": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu by tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3))),
    "swish of its own gradient": SwishByHand.apply,
    "softplus by hand": lambda x: torch.log1p(torch.exp(x)),
    "logsumexp with 0": lambda x: torch.logsumexp(torch.stack([x, torch.zeros_like(x)]), 0),
    "larger of the two ends": lambda x: torch.aminmax(torch.stack([x, torch.zeros_like(x)]), dim=0)[1],
    "root by power": lambda x: (x + (x**2) ** 0.5) / 2,
    "reciprocal root": lambda x: (x + x * x * (x * x + 1e-6).rsqrt()) / 2,
    "scripted": torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())),
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=False),
}
ALLOWED = {
    "nothing": lambda x: x,
    "nn.ReLU": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "sigmoid": lambda x: x * torch.sigmoid(50 * x.roll(1, 1)),
    "tanh": lambda x: torch.tanh(20 * x),
    "hardsigmoid": lambda x: x * F.hardsigmoid(9 * x.roll(1, 1)),
    "halves": lambda x: F.glu(torch.cat([x, x.roll(1, 1)], 1), 1),
    "halves by hand": lambda x: torch.mul(*torch.cat([x, x.roll(1, 1).sigmoid()], 1).chunk(2, 1)),
    "attention": lambda x: F.scaled_dot_product_attention(x[:, :1], x[:, 1:2], x[:, 2:3]).expand_as(x),
    "square": lambda x: x * x,
    "logarithm": lambda x: torch.log1p(x * x),
    "softmax": lambda x: (300 * x).softmax(1),
    "max pool": lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
    "average pool": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1),
    "transposed": lambda x: x.transpose(2, 3).flip(2).roll(3, 3),
    "field of view": lambda x: x * (torch.arange(24) > 4),
    "padding mask": lambda x: x.masked_fill(torch.arange(24) > 20, 0),
    "gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "product": lambda x: x * x.roll(1, 1),
    "a subclass of nn.ReLU": type("Named", (nn.ReLU,), {})(),
    "two in a row": nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)),
    "largest of the channels": lambda x: x * x.amax(1, keepdim=True),
    "magnitude of two": lambda x: (x**2 + x.roll(1, 1) ** 2 + 1).sqrt(),
    "by its root mean square": lambda x: x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt(),
    "traced by fx": torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())),
    "normalised": lambda x: F.normalize(x, dim=1),
    "instance norm": nn.InstanceNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "dropout": lambda x: F.dropout(x, 0.5, training=True),
    "upsampled": lambda x: F.interpolate(x[..., ::2, ::2], scale_factor=2, mode="bilinear"),
    "padded": lambda x: F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1],
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(nn.Identity(), x, use_reentrant=False),
}


class Beside(nn.Module):
    "Another operation beside an `nn.ReLU`."

    def __init__(self, other):
        super().__init__()
        self.first, self.relu, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)
        self.middle, self.other = nn.Conv2d(4, 4, 3, padding=1), other

    def forward(self, x):
        return self.head(self.other(self.middle(self.relu(self.first(x)))))


def beside(other):
    torch.manual_seed(0)
    return Beside(other)


@pytest.mark.parametrize("method", HOOKED)
@pytest.mark.parametrize("name", REFUSED)
def test_another_rectifier_beside_a_relu_is_refused(scene, method, name):
    _, image, target = scene
    assert "rectifiers of the network (" in one_line(beside(REFUSED[name]), image, target, method, layer="relu")


@pytest.mark.parametrize("method", HOOKED)
@pytest.mark.parametrize("name", ALLOWED)
def test_what_does_not_rectify_is_allowed(scene, method, name):
    _, image, target = scene
    random = torch.get_rng_state()
    check_hookable(beside(ALLOWED[name]).eval(), image)
    torch.set_rng_state(random)
    assert saliency_map(beside(ALLOWED[name]), image, target, method, layer="relu").shape == target.shape


def test_frozen_networks_are_explained(scene):
    _, image, target = scene
    network = beside(nn.ReLU()).requires_grad_(False)
    network.first.weight[:, :, 1, 1] = 0  # an edge filter
    assert saliency_map(network, image, target, "guided_backprop", layer="relu").any()


class Twice(nn.Module):
    "One ReLU, called twice."

    def __init__(self, inplace):
        super().__init__()
        self.first, self.middle, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=2), nn.Conv2d(4, 1, 1)
        self.relu = nn.ReLU(inplace)

    def forward(self, x, relu=None):
        relu = relu or self.relu
        return self.head(relu(self.middle(relu(self.first(x)))))


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx, g):
        return g.relu() * (ctx.saved_tensors[0] > 0)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_relu_that_is_called_twice_is_guided_twice(scene, inplace):
    _, image, target = scene
    torch.manual_seed(0)
    network, x = Twice(inplace).eval(), image.clone().requires_grad_()
    (network(x, Guided.apply)[:, 0] * target).sum().backward()
    assert torch.allclose(saliency_map(network, image, target, "guided_backprop", layer="relu"), x.grad[:, 0].abs())


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda y: y.sigmoid().clamp(1e-6, 1 - 1e-6), "its last sigmoid"),
        (lambda y: 100 * y.sigmoid(), "its last sigmoid"),
    ]
    + [
        (F.logsigmoid, "its last logsigmoid"),
        (lambda y: torch.cat([y, -y], 1).log_softmax(1)[:, :1], "its last logsoftmax"),
    ]
    + [(lambda y: (y > 0).float(), "with a gradient"), (lambda y: y > 0, "with a gradient")]
    + [(lambda y: y.detach(), "with a gradient"), (lambda y: [y], "not a list"), (lambda y: None, "not a NoneType")]
    + [(lambda y: y.detach().numpy(), "not a ndarray"), (lambda y: y[..., 1:-1], "not the shape")],
)
def test_what_is_no_logit_is_one_line(scene, change, words):
    _, image, target = scene
    assert words in one_line(Returns(1, change), image, target, "vanilla", layer="relu")


@pytest.mark.parametrize(
    "change", [lambda y: torch.logit(y.sigmoid()), lambda y: y / 2, lambda y: y.half(), F.tanhshrink]
)
def test_logits_that_were_changed_are_logits(scene, change):
    _, image, target = scene
    assert saliency_map(Returns(1, change), image, target, "vanilla", layer="relu").any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_type_are_one_line(scene, dtype):
    _, image, target = scene
    network = beside(nn.ReLU()).to(dtype)
    words = one_line(network, image, target, "gradcam", layer="relu")
    assert words == f"model must hold weights of float32, not {dtype}; use model.float()"


@pytest.mark.parametrize("method", ["gradcam", "gradcam_plus_plus", "signed_gradcam"])
def test_a_layer_that_no_hook_reaches_is_one_line(scene, method):
    _, image, target = scene
    network = torch.jit.trace(beside(nn.Identity()).eval(), image)
    assert "layer must be a module that is called" in one_line(network, image, target, method, layer="relu")
    assert saliency_map(network, image, target, "vanilla", layer="relu").any()


def test_no_rectifier_at_all_is_refused(scene):
    _, image, target = scene
    assert "all rectifiers" in one_line(nn.Sequential(nn.Conv2d(1, 1, 1)), image, target, "guided_backprop", layer="0")


def test_a_network_is_looked_at_once(scene):
    model, image, target = scene
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for _ in range(3):
        saliency_map(model, image, target, "guided_backprop")
        counts.append(len(calls))
    assert counts[1:] == [counts[0] + 1, counts[0] + 2]


def test_a_changed_network_is_looked_at_again(scene):
    model, image, target = scene
    saliency_map(model, image, target, "guided_backprop")
    model.down[0][1] = nn.ReLU6()
    assert "(hardtanh)" in one_line(model, image, target, "guided_backprop")
    model.down[0][1] = nn.ReLU()
    saliency_map(model, image, target, "guided_backprop")
    model.head = nn.Sequential(model.head, nn.Sigmoid())
    assert "leave out its last sigmoid" in one_line(model, image, target, "vanilla")


@pytest.mark.parametrize("change", [lambda y: 30 * torch.tanh(y / 30), lambda y: torch.logit(y.sigmoid()), torch.exp])
def test_what_only_looks_like_a_probability_is_explained(scene, change):
    _, image, target = scene
    assert saliency_map(Returns(1, change), image, target, "vanilla", layer="relu").any()


# Tensors of any kind
def test_a_batch_of_none_has_no_maps():
    for method in SALIENCY:
        maps = saliency_map(UNet(2), torch.zeros(0, 1, 16, 16), torch.zeros(0, 16, 16), method)
        assert maps.shape == (0, 16, 16) and maps.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_and_arrays_change_no_map(scene, method):
    model, image, target = scene
    wanted = saliency_map(model, image, target, method)
    with torch.inference_mode():
        within = image.clone()
        inside = saliency_map(model, within, target.clone(), method)
    assert torch.equal(inside, wanted)
    assert torch.equal(saliency_map(model, within, target.numpy()[:, ::-1].copy()[:, ::-1], method), wanted)


def test_a_module_is_meant_by_its_name(scene):
    model, image, target = scene
    for layer in ("", None, 5, model.bottleneck):
        line = one_line(model, image, target, "gradcam", layer=layer)
        assert line.startswith("layer must be the name of a module") and len(line) < 300


def test_what_torch_says_of_a_network_is_one_line(scene):
    _, image, target = scene
    line = one_line(nn.Sequential(nn.Conv2d(3, 1, 3, padding=1)), image, target, "vanilla", layer="0")
    assert line.startswith("model cannot be asked for the gradient of such images (") and "3 channels" in line
