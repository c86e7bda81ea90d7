"The network: what it takes and what it refuses in one line."

import numpy as np
import pytest
import torch

from ada_repro.method.unet import JoinedChannels, UNet, count_relus, graph_nodes


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"width": 0}, "width must be a whole number of at least 1, not 0"),
        ({"width": 1.5}, "width must be a whole number, not 1.5"),
        ({"dropout": 1}, r"dropout must be a number in \[0, 1\), not 1"),
        ({"dropout": -0.1}, r"dropout must be a number in \[0, 1\), not -0.1"),
        ({"bn_momentum": 1.1}, r"bn_momentum must be a number in \[0, 1\], not 1.1"),
        ({"bn_momentum": None}, "bn_momentum must be a number, not None"),
    ],
)
def test_wrong_arguments(bad, words):
    with pytest.raises(ValueError, match=words):
        UNet(**bad)


def test_numpy_scalars_are_numbers():
    model = UNet(width=np.int64(2), dropout=np.float32(0.5), bn_momentum=np.float64(0.4))
    assert model(torch.randn(2, 1, 8, 16)).shape == (2, 1, 8, 16)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 3, 8, 8), (1, 1, 12, 8), (8, 8)])
def test_wrong_images(shape):
    with pytest.raises(ValueError, match="x must have "):
        UNet(width=2)(torch.randn(shape))


def test_every_relu_is_a_module_and_every_operation_is_listed_once():
    y = UNet(width=2)(torch.randn(2, 1, 8, 8))
    nodes = graph_nodes(y)
    assert count_relus(y) == 14 and len(nodes) == len(set(nodes)) and nodes[0] is y.grad_fn


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joined_channels_are_cat_with_gradients_of_their_own(layout):
    parts = [torch.randn(2, c, 8, 8).contiguous(memory_format=layout).requires_grad_() for c in (4, 2)]
    ours, plain = JoinedChannels.apply(*parts), torch.cat(parts, 1)
    weight = torch.randn_like(plain)
    gradients = torch.autograd.grad(ours, parts, weight)
    assert torch.equal(ours, plain)
    for gradient, expected in zip(gradients, torch.autograd.grad(plain, parts, weight), strict=True):
        assert torch.equal(gradient, expected) and gradient.is_contiguous(memory_format=layout)


def test_joined_channels_can_be_derived_twice_and_by_function_transforms():
    parts = [torch.randn(1, c, 2, 2, dtype=torch.double, requires_grad=True) for c in (2, 1)]
    assert torch.autograd.gradgradcheck(JoinedChannels.apply, parts)
    model, x = UNet(width=2).eval(), torch.randn(2, 1, 16, 16, requires_grad=True)
    expected = torch.autograd.grad(model(x).sum(), x)[0]
    torch.testing.assert_close(torch.func.grad(lambda x: model(x).sum())(x), expected)
    torch.testing.assert_close(torch.func.vmap(lambda x: model(x[None])[0])(x), model(x))


@pytest.mark.parametrize("autocast", [False, True])
def test_training_through_joined_channels_ends_with_the_bits_of_cat(autocast, monkeypatch):
    ends = []
    for join in (JoinedChannels.apply, lambda *parts: torch.cat(parts, 1)):
        monkeypatch.setattr(JoinedChannels, "apply", join)
        torch.manual_seed(0)
        model = UNet(width=4, dropout=0.1).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = model(torch.randn(4, 1, 16, 16)).float().sigmoid().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)
