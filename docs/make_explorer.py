"The explorer, one page that runs a network: `python docs/make_explorer.py`. Its parts lie in docs/explorer."

import argparse
import base64
import json
import re
import tempfile
from pathlib import Path

import numpy as np

from ada_repro.core import ROOT
from ada_repro.data.datasets import prepare
from ada_repro.data.phantom import SITES, phantom_slices
from ada_repro.data.slices import majority
from ada_repro.method.arms import arm_name
from ada_repro.train.weights import WEIGHTS, read_card

PARTS = ROOT / "docs" / "explorer"
SPACING_MM, SIDE_PX = 0.5, 80
SCANS = {"sub-9418": 8, "sub-9584": 8, "sub-9604": 7, "sub-9709Ses2": 10, "sub-10062Ses2": 10}
PHANTOMS = 5
METHODS = ("vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam")
ARMS = ("baseline", "gradcam", "guided_backprop", "none")  # four fit into a page below 1 MB
WORKER = ("layers", "unet", "saliency", "hole", "questions")  # each after those it imports
PAGE = ("files", "picture", "helpers", "page")


def to_base64(content: bytes) -> str:
    "Bytes as text that a page can hold."
    return base64.b64encode(content).decode()


def packed_slice(image, target, **about) -> dict:
    "A slice in 256 greys, and its grey matter in bits."
    low, high = float(image.min()), float(image.max())
    step = (high - low) / 255
    levels = np.round((image - low) / step).astype(np.uint8)
    pixels, bits = to_base64(levels.tobytes()), to_base64(np.packbits(target).tobytes())
    return about | {"low": low, "step": step, "pixels": pixels, "target": bits}


def phantoms() -> list:
    "Simulated slices, each of another subject."
    images, targets = phantom_slices(PHANTOMS, SIDE_PX, SPACING_MM)
    slices = []
    for i, (image, target) in enumerate(zip(images[:, 0], majority(targets, 1), strict=True)):
        site = list(SITES)[i % len(SITES)]
        slices.append(
            packed_slice(image.numpy(), target.numpy(), kind="phantom", name=f"Simulated subject {i + 1}, {site}")
        )
    return slices


def scans(raw: Path) -> list:
    "A slice near the middle of a scan of each of the five people of the open data."
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare("gm_challenge", raw, Path(folder) / "slices", SPACING_MM, SIDE_PX)
    slices = []
    for subject, number in SCANS.items():
        rows = np.flatnonzero((prepared.table.subject == subject) & (prepared.table.slice == number))
        (row,) = rows
        site = prepared.table.site[row]
        image, target = prepared.images[row, 0].numpy(), prepared.consensus[row].numpy()
        slices.append(packed_slice(image, target, kind="scan", name=f"{subject}, {site}, slice {number}"))
    return slices


def write_slices(raw: Path):
    "docs/explorer/slices.json, a line per slice."
    lines = [json.dumps(s) for s in phantoms() + scans(raw)]
    (PARTS / "slices.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def script(parts) -> str:
    "Modules one after another, as one script: their imports are already above them."
    texts = [(PARTS / f"{part}.mjs").read_text() for part in parts]
    text = re.sub(r"(?m)^import .*\n+", "", "\n".join(texts))
    return '"use strict";\n' + re.sub(r"(?m)^export ", "", text)


def safetensors_parts(path: Path) -> tuple:  # Header, a dict; the bytes behind it
    "A safetensors file begins with the length of its header, eight bytes."
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    return header, content[end:]


def page_data(arms: list) -> dict:
    "All that the page knows: slices, and the weights of some arms under one header."
    card = read_card(WEIGHTS, "Restore weights/")
    networks, headers = [], []
    for arm in arms:
        about = card["arms"][arm]
        header, content = safetensors_parts(WEIGHTS / about["file"])
        headers.append(header)
        told = {"name": arm, "title": arm_name(arm), "DSC": about["DSC"], "epoch": about["epoch"]}
        networks.append(told | {"bytes": to_base64(content)})
    if any(header != headers[0] for header in headers):
        raise ValueError(f"The files of {', '.join(arms)} differ in their tensors: make all of them in one run")
    return {"header": headers[0], "networks": networks, "slices": json.loads((PARTS / "slices.json").read_text())}


def options(networks: list) -> str:
    "The networks one can choose."
    lines = []
    for network in networks:
        title = network["title"] if network["name"] == "baseline" else f"ADA: {network['title']}"
        lines.append(f'<option value="{network["name"]}">{title}</option>')
    return "\n".join(lines)


def map_buttons() -> str:
    "A button with a canvas for each of the paper's methods."
    template = (
        '    <button type="button" class="map" id="map-{name}" disabled><canvas width="400" height="400"></canvas>'
        '<span class="name">{title}</span> <span class="where"></span></button>'
    )
    return "\n".join(template.format(name=name, title=arm_name(name)) for name in METHODS)


def about_weights(arms: list) -> str:
    "What the weights are, in a sentence or two."
    card = read_card(WEIGHTS, "Restore weights/")
    others = [arm_name(arm) for arm in card["arms"] if arm not in arms]
    text = f"The weights are those of weights/ (profile {card['profile']}, seed {card['seed']}), in half precision."
    if others:
        text += f" To keep the page small it holds {len(arms)} of {len(card['arms'])} networks; open a file of weights/"
        text += f" for the others ({', '.join(others)}), or one of your own runs (<code>best.safetensors</code>)."
    return text


def build(arms: list) -> str:
    "The page."
    data = page_data(arms)
    parts = {
        "/* style.css */": (PARTS / "style.css").read_text(),
        "<!-- networks -->": options(data["networks"]),
        "<!-- maps -->": map_buttons(),
        "<!-- card -->": about_weights(arms),
        "/* data */": json.dumps(data),
        "/* answers */": script(WORKER),
        "/* worker */": script(["worker"]),
        "/* page */": script(PAGE),
    }
    page = (PARTS / "template.html").read_text()
    for place, text in parts.items():
        page = page.replace(place, text.strip())
    return page


def main():
    "Build the page, as the command line says."
    parser = argparse.ArgumentParser(description="Build the explorer, one page that needs nothing else.")
    parser.add_argument("--slices", type=Path, metavar="RAW", help="draw the slices anew; the open data lie in RAW")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="networks of weights/ that the page holds")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explorer.html")
    told = parser.parse_args()
    if told.slices:
        write_slices(told.slices)
    told.out.write_text(build(told.arms))
    print(f"{told.out}: {told.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
