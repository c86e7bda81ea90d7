"The network: what it takes and what it refuses in one line."

import numpy as np
import pytest
import torch

from ada_repro.method.unet import UNet, count_relus, graph_nodes


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
