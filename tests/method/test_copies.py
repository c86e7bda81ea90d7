"Occluded copies for a loop of one's own: against the steps they are made of, for other networks too."

import pytest
import torch
from torch import nn

from ada_repro.method.copies import ada_copies
from ada_repro.method.mask import build_mask, occlude
from ada_repro.method.saliency import saliency_map
from ada_repro.method.unet import UNet

METHODS = ["vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam"]


def batch(n=3, px=16):
    "Images and targets with a square in the middle."
    torch.manual_seed(0)
    images, targets = torch.randn(n, 1, px, px), torch.zeros(n, 1, px, px, dtype=torch.bool)
    targets[:, :, 6:10, 6:10] = True
    return images, targets


@pytest.mark.parametrize("method", METHODS)
def test_equal_to_their_steps(method):
    (images, targets), model = batch(), UNet(4).eval()
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]  # for a map that is flat
    mask = build_mask(saliency_map(model, images, targets, method), 5, targets, generator=draws[0])
    assert torch.equal(ada_copies(model, images, targets, method, 5, generator=draws[1]), occlude(images, mask))


@pytest.mark.parametrize("protect", ["keep", "forbid"])
def test_ground_truth_stays(protect):
    images, targets = batch()
    copies = ada_copies(UNet(4), images, targets, "vanilla", 5, protect)
    assert torch.equal(copies[targets], images[targets]) and (copies == 0).any()


def test_a_random_window_follows_its_generator_and_asks_no_network():
    images, targets = batch()
    first, again, other = (
        ada_copies(None, images, targets, "random", 5, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_network_is_left_as_it_was_and_no_gradient_leads_back():
    (images, targets), model = batch(), UNet(4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copies = ada_copies(model, images.requires_grad_(), targets, "gradcam", 5)
    assert model.training and not copies.requires_grad and images.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def other_network(rectifier):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), rectifier(), nn.Conv2d(4, 1, 3, padding=1))


def test_a_network_that_cannot_be_hooked_is_refused_by_guided_methods_only():
    (images, targets), model = batch(), other_network(nn.PReLU)
    with pytest.raises(ValueError, match="not nn.ReLU modules"):
        ada_copies(model, images, targets, "guided_backprop", 5, layer="1")
    assert ada_copies(model, images, targets, "vanilla", 5, layer="1").shape == images.shape
    assert ada_copies(other_network(nn.ReLU), images, targets, "guided_backprop", 5, layer="1").shape == images.shape


@pytest.mark.parametrize("wrong", [{"method": "grdcam"}, {"size": 17}, {"size": 0}, {"protect": "all"}])
def test_wrong_words_are_refused_in_one_line(wrong):
    images, targets = batch()
    told = {"method": "vanilla", "size": 5} | wrong
    with pytest.raises(ValueError) as error:
        ada_copies(UNet(4), images, targets, **told)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("method", ["vanilla", "random"])
def test_options_are_checked_whichever_method_uses_them(method):
    images, targets = batch()
    for wrong in ({"sign": "abs"}, {"flat": "corner"}):
        with pytest.raises(ValueError):
            ada_copies(UNet(4), images, targets, method, 5, **wrong)
    assert ada_copies(UNet(4), images[:0], targets.numpy()[:0], method, 5).shape == (0, 1, 16, 16)
