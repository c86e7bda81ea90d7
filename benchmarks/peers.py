"The same work done by others: the libraries of the field, and the plain ways one would write first."

import numpy as np
import torch
import torch.nn.functional as F
from captum import attr
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates
from torch.utils.data import DataLoader, Dataset

from ada_repro.method.mask import build_robustness_data
from ada_repro.method.saliency import ForegroundScore
from ada_repro.method.unet import UNet
from ada_repro.train.training import dice_loss, predict


# Augmentation
def scipy_move(
    image: np.ndarray,  # (H, W), float32
    target: np.ndarray,  # (H, W), bool
    angle: float,  # Radians, clockwise as displayed
    scale: float,  # Factor
    shift: np.ndarray,  # (2,), rows and columns, pixels
    field: np.ndarray = None,  # (2, H, W), rows and columns, pixels; no deformation if absent
):  # Image and target, moved
    "One image with scipy: an affine map, then the deformation."
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - back @ (middle + shift)
    image, target = (affine_transform(m.astype(np.float32), back, offset, order=1) for m in (image, target))
    if field is not None:
        at = np.indices(image.shape, dtype=np.float32) + field
        image, target = (map_coordinates(m, at, order=1) for m in (image, target))
    return image, target > 0.5


def scipy_augment(
    image: np.ndarray,  # (H, W), float32
    target: np.ndarray,  # (H, W), bool
    rng,  # numpy generator
):  # Image and target
    "Table 2 as the ancestor's transforms do it, one image at a time."
    field = None
    if rng.random() < 0.3:
        field = 30 * np.stack([gaussian_filter(rng.uniform(-1, 1, image.shape), 4) for _ in range(2)])
    angle, scale, shift = (
        np.deg2rad(rng.uniform(-4.6, 4.6)),
        rng.uniform(0.98, 1.02),
        rng.uniform(-0.03, 0.03, 2) * image.shape,
    )
    image, target = scipy_move(image, target, angle, scale, shift, field)
    return image + np.float32(rng.uniform(-0.17, 0.17)), target


def monai_augment():
    "The same with MONAI: a function of one image and its target, each (1, H, W)."
    from monai.transforms import Compose, Rand2DElasticd, RandAffined, RandShiftIntensityd

    both, modes = ["image", "target"], ["bilinear", "nearest"]
    chain = Compose(
        [
            RandAffined(
                both,
                prob=1,
                rotate_range=np.deg2rad(4.6),
                translate_range=(6, 6),
                scale_range=0.02,
                mode=modes,
                padding_mode="zeros",
            ),
            Rand2DElasticd(both, spacing=(4, 4), magnitude_range=(1, 2), prob=0.3, mode=modes, padding_mode="zeros"),
            RandShiftIntensityd(["image"], offsets=0.17, prob=1),
        ]
    )
    return lambda image, target: chain({"image": image, "target": target})


def kornia_augment():
    "The same with kornia: a function of a batch of images and targets, each (B, 1, H, W), float32."
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomAffine(4.6, (0.03, 0.03), (0.98, 1.02), p=1.0),
        K.RandomElasticTransform((33, 33), (4.0, 4.0), (0.15, 0.15), p=0.3),
        K.RandomBrightness((0.83, 1.17), clip_output=False, p=1.0),
        data_keys=["input", "mask"],
        same_on_batch=False,
    )


# Training
class PlainUNet(UNet):
    "The network as everybody writes it: the way up with `torch.cat`."

    def forward(self, x):
        "Logits."
        levels = []
        for down in self.down:
            levels.append(down(x))
            x = F.max_pool2d(levels[-1], 2)
        x = self.bottleneck(x)
        for up, level in zip(self.up, reversed(levels), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = up(torch.cat([x, level], 1))
        return self.head(x)


class AncestorData(Dataset):
    "The ancestor's data set: an image, transformed by scipy, for each index, without end."

    def __init__(
        self,
        slices,  # Training slices
    ):
        self.images, self.targets = slices.images.cpu().numpy(), slices.targets.cpu().numpy()

    def __len__(self):
        return 10**6

    def __getitem__(self, i):
        rng, j = np.random.default_rng(i), i % len(self.images)
        image, target = scipy_augment(self.images[j, 0], self.targets[j, rng.integers(self.targets.shape[1])], rng)
        return image[None], target[None]


def ancestor_loader(
    slices,  # Training slices
    batch_size: int,  # Images per step
):  # An iterator over batches, made by one worker
    "The ancestor's way to its batches."
    return iter(DataLoader(AncestorData(slices), batch_size, num_workers=1))


def plain_step(
    model,  # In training mode
    optimizer,  # Of its parameters
    x,
    y,  # Images and targets (B, 1, H, W)
):
    "A step as everybody writes it first: eager, float32."
    loss = dice_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# Windows
def loop_window(
    saliency: np.ndarray,  # (H, W)
    size: int,  # Side of the window, pixels
):  # Row and column of its corner
    "The heaviest window through an integral image, in Python loops."
    H, W = saliency.shape
    sums = np.zeros((H + 1, W + 1))
    for i in range(H):
        for j in range(W):
            sums[i + 1, j + 1] = saliency[i, j] + sums[i, j + 1] + sums[i + 1, j] - sums[i, j]
    best, corner = -np.inf, (0, 0)
    for i in range(H - size + 1):
        for j in range(W - size + 1):
            total = sums[i + size, j + size] - sums[i, j + size] - sums[i + size, j] + sums[i, j]
            if total > best:
                best, corner = total, (i, j)
    return corner


def loop_occlude(
    image: torch.Tensor,  # (B, 1, H, W)
    saliency: torch.Tensor,  # (B, H, W)
    size: int,  # Side of the window, pixels
):  # Images with their holes
    "Windows and holes by Python loops."
    new = image.clone()
    for x, weights in zip(new, saliency.cpu().numpy(), strict=True):
        i, j = loop_window(weights, size)
        x[:, i : i + size, j : j + size] = 0
    return new


def pooled_occlude(
    image: torch.Tensor,  # (B, 1, H, W)
    saliency: torch.Tensor,  # (B, H, W)
    size: int,  # Side of the window, pixels
):  # Images with their holes
    "Windows and holes by average pooling and argmax."
    sums, new = F.avg_pool2d(saliency[:, None], size, 1)[:, 0], image.clone()
    for x, at in zip(new, sums.flatten(1).argmax(1).tolist(), strict=True):
        i, j = divmod(at, sums.shape[2])
        x[:, i : i + size, j : j + size] = 0
    return new


def captum_map(
    model,  # In eval mode
    x,  # One image (1, 1, H, W)
    target,  # (1, 1, H, W), float
    method: str,  # Name in the registry
):  # (1, H, W)
    "The map of one image, through Captum as its manual says."
    score, layer = ForegroundScore(model, target), model.get_submodule("bottleneck.5")
    if method == "vanilla":
        return attr.Saliency(score).attribute(x)[0]
    if method == "gradcam":
        coarse = attr.LayerGradCam(score, layer).attribute(x, relu_attributions=True)
        return attr.LayerAttribution.interpolate(coarse, x.shape[-2:], "bilinear")[0].detach()
    if method == "guided_gradcam":
        return attr.GuidedGradCam(score, layer).attribute(x, interpolate_mode="bilinear")[0].abs().detach()
    plain = {"input_x_gradient": attr.InputXGradient, "guided_backprop": attr.GuidedBackprop}
    return plain[method](score).attribute(x)[0].abs().detach()


# Robustness
def monai_scores(
    preds,  # (n, H, W), bool
    targets,  # (n, H, W), bool
    spacing_mm: float,  # Side of a pixel
):  # A dict of (n,): DSC, HSD, TPR, TNR, PPV
    "Table 1 with MONAI."
    from monai.metrics import (
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        get_confusion_matrix,
    )

    preds, targets = preds[:, None].float(), targets[:, None].float()
    values = {
        "DSC": 100 * compute_dice(preds, targets),
        "HSD": compute_hausdorff_distance(preds, targets, include_background=True, spacing=spacing_mm),
    }
    table = get_confusion_matrix(preds, targets)
    for name, monai_name in {"TPR": "sensitivity", "TNR": "specificity", "PPV": "precision"}.items():
        values[name] = 100 * compute_confusion_matrix_metric(monai_name, table)
    return {name: tensor.flatten().cpu().numpy() for name, tensor in values.items()}


def monai_table4(
    model,  # Image -> logits, channels last
    slices,  # Validation slices
    size: int,  # Side of a cell, pixels
    threshold: float,  # Probability from which a pixel is grey matter
    batch_size: int,  # Copies at a time
):  # A dict of means over slices
    "All copies at once, predicted in batches, scored by MONAI."
    means = []
    for x, target, mm in zip(slices.images.split(1), slices.consensus, slices.table.spacing_mm, strict=True):
        copies = build_robustness_data(x, size)[:, 0]
        preds = predict(model, copies, threshold, batch_size)
        scores = monai_scores(preds, target.expand_as(preds), mm)
        means.append({name: np.nanmean(values[np.isfinite(values)]) for name, values in scores.items()})
    return {name: np.mean([each[name] for each in means]) for name in means[0]}


# Hausdorff distance of one pair
def monai_hausdorff(pred, target, spacing_mm):
    "MONAI."
    from monai.metrics import compute_hausdorff_distance

    return compute_hausdorff_distance(
        torch.from_numpy(pred)[None, None],
        torch.from_numpy(target)[None, None],
        include_background=True,
        spacing=spacing_mm,
    ).item()


def medpy_hausdorff(pred, target, spacing_mm):
    "medpy."
    from medpy.metric import hd

    return hd(pred, target, spacing_mm)


def surface_hausdorff(pred, target, spacing_mm):
    "surface-distance."
    import surface_distance

    return surface_distance.compute_robust_hausdorff(
        surface_distance.compute_surface_distances(target, pred, spacing_mm), 100
    )
