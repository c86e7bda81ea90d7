"The three pictures of the front page: `python docs/make_front.py`. A simulated slice and the published baseline."

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import zoom

from ada_repro.core import ROOT
from ada_repro.data.phantom import phantom_slices
from ada_repro.method.mask import build_mask, occlude
from ada_repro.method.saliency import saliency_map
from ada_repro.train.weights import load_weights

TIMES, SIZE_PX, ORANGE = 5, 10, (255, 146, 43)
WITHIN = slice(12, 68)


def grey(image):
    "A slice as bytes, enlarged."
    low, high = np.percentile(image, (1, 99.5))
    pixels = np.clip((zoom(image, TIMES, order=1) - low) / (high - low), 0, 1)
    return np.repeat((255 * pixels).astype(np.uint8)[..., None], 3, 2)


def outlined(pixels, target):
    "The same with the border of the grey matter."
    inside = zoom(target.astype(float), TIMES, order=1) > 0.5
    border = inside & ~(np.roll(inside, 2, 0) & np.roll(inside, -2, 0) & np.roll(inside, 2, 1) & np.roll(inside, -2, 1))
    pixels = pixels.copy()
    pixels[border] = ORANGE
    return pixels


def heated(pixels, saliency):
    "The same under what the network looks at."
    heat = np.clip(zoom(saliency / np.percentile(saliency, 99.7), TIMES, order=1), 0, 1)
    colours = 255 * colormaps["inferno"](heat)[..., :3]
    share = np.sqrt(heat)[..., None] * 0.85
    return (pixels * (1 - share) + colours * share).astype(np.uint8)


def pictures():
    "Find, ask, hide."
    images, targets = phantom_slices(4, px=80, spacing_mm=0.5, seed=0)
    target = targets.float().mean(1, keepdim=True) > 0.5
    saliency = saliency_map(load_weights("baseline").cpu(), images, target, "gradcam")
    mask = build_mask(saliency, SIZE_PX, target, generator=torch.Generator().manual_seed(0))
    hidden = occlude(images, mask)
    i = 1
    image, gm = images[i, 0].numpy()[WITHIN, WITHIN], target[i, 0].numpy()[WITHIN, WITHIN]
    hole = hidden[i, 0].numpy()[WITHIN, WITHIN]
    yield "slice", outlined(grey(image), gm)
    yield "look", heated(grey(image), saliency[i].numpy()[WITHIN, WITHIN])
    blank = zoom((~mask[i]).numpy()[WITHIN, WITHIN].astype(float), TIMES, order=0) > 0.5
    pixels = grey(hole)
    pixels[blank] = (20, 20, 20)
    yield "hide", outlined(pixels, gm)


if __name__ == "__main__":
    folder = ROOT / "docs" / "static" / "front"
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in pictures():
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)
