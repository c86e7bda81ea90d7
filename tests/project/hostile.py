"Hostile files and names: each is offered to what reads its kind; none may run."

import hashlib
import io
import json
import pickle
import struct

import nbformat
import numpy as np
import torch
from nbformat.v4 import new_code_cell, new_notebook

from ada_repro.data.datasets import prepare
from ada_repro.data.slices import load_slices
from ada_repro.pipeline.code import write_arms
from ada_repro.pipeline.params import parse_words, read_params
from ada_repro.pipeline.stage import main, notebook_parameters
from ada_repro.train.runs import load_checkpoint, load_model, load_state, parent_state
from ada_repro.train.training import new_state

MODEL = {"width": 4, "dropout": 0.1, "bn_momentum": 0.4, "lr": 0.01, "seed": 0}
KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
TABLE = "site,subject,person,slice,spacing_mm,native_mm,slice_mm,split\n1,a,a,0,1.0,1.0,5.0,train\n"


class Evil:
    "Opens a file, that is, makes it, when it is unpickled."

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def legacy(evil):
    return pickle.dumps(evil, protocol=2)


def zipped(evil):
    to = io.BytesIO()
    torch.save({"model": evil}, to)
    return to.getvalue()


def crafted_checkpoint(folder, evil):
    (folder / "c").mkdir()
    content = zipped(evil)
    (folder / "c" / f"000001-{hashlib.sha256(content).hexdigest()}.pt").write_bytes(content)
    load_checkpoint(new_state(**MODEL), folder / "c")


def crafted_state(content):
    def offer(folder, evil):
        (folder / "state.pt").write_bytes(content(evil))
        load_state(new_state(**MODEL), folder / "state.pt")

    return offer


def crafted_parent(folder, evil):
    (folder / "state.pt").write_bytes(zipped(evil))
    parent_state(new_state(**MODEL), folder)


def torchscript(folder, evil):
    torch.jit.script(torch.nn.ReLU()).save(folder / "state.pt")
    load_state(new_state(**MODEL), folder / "state.pt")


def weights(content):
    def offer(folder, evil):
        (folder / "best.safetensors").write_bytes(content(evil))
        load_model(folder / "best.safetensors", 4)

    return offer


def beyond(evil):
    header = json.dumps({"head.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}).encode()
    return struct.pack("<Q", len(header)) + header


def slices_with(name):
    def offer(folder, evil):
        for other in ("images", "targets"):
            np.save(folder / f"{other}.npy", np.zeros((1, 1, 8, 8), np.float32))
        np.save(folder / f"{name}.npy", np.array([evil], dtype=object), allow_pickle=True)
        (folder / "slices.csv").write_text(TABLE)
        load_slices(folder)

    return offer


def pickled_npy(folder, evil):
    (folder / "slices.csv").write_text("site\n1\n")
    (folder / "images.npy").write_bytes(legacy(evil))
    load_slices(folder)


def archive(folder, evil):
    np.savez(folder / "preds.npz", original=np.array([evil], dtype=object))
    np.load(folder / "preds.npz")["original"]


def yaml_value(folder, evil):
    cells = [new_code_cell("size: int = None  # of the window", metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), folder / "s.ipynb")
    told = parse_words(["--size", f'!!python/object/apply:builtins.open ["{evil.path}", "w"]'])
    notebook_parameters(folder / "s.ipynb", told)


def yaml_file(folder, evil):
    (folder / "params.yaml").write_text(f'data: !!python/object/apply:builtins.open ["{evil.path}", "w"]\n')
    read_params(folder / "params.yaml")


def names(text):
    def offer(folder, evil):
        (folder / "params.yaml").write_text(json.dumps({"data": {"dataset": text.format(evil.path)}}))
        read_params(folder / "params.yaml")

    return offer


def in_the_runner(*words):
    def offer(folder, evil):
        if main([w.format(evil.path) for w in words]):
            raise ValueError("refused")

    return offer


def huge_header(evil):
    return struct.pack("<Q", 2**63 - 1) + b"{}"


def path_as_dataset(folder, evil):
    prepare("../../etc", folder, folder / "out", 1.0, 40)


def path_as_arm(folder, evil):
    write_arms(folder / "arms", ["../../evil"])


def code_as_arm(folder, evil):
    write_arms(folder / "arms", [f'open({evil.path!r}, "w")'])


CRAFTED = {
    "pickle_as_state": crafted_state(zipped),
    "old_pickle_as_state": crafted_state(legacy),
    "pickle_as_parent": crafted_parent,
    "torchscript_as_state": torchscript,
    "pickle_as_checkpoint_with_right_checksum": crafted_checkpoint,
    "pickle_as_weights": weights(legacy),
    "torch_file_as_weights": weights(zipped),
    "huge_safetensors_header": weights(huge_header),
    "safetensors_beyond_the_file": weights(beyond),
    "objects_as_images": slices_with("images"),
    "objects_as_targets": slices_with("targets"),
    "pickle_as_images": pickled_npy,
    "objects_as_predictions": archive,
    "yaml_tag_on_the_command_line": yaml_value,
    "yaml_tag_in_params": yaml_file,
    "shell_in_params": names("phantom; touch {}"),
    "substitution_in_params": names("$(touch {})"),
    "path_in_params": names("../../etc"),
    "path_as_stage": in_the_runner("../../tests/project/test_faults"),
    "path_as_dataset": path_as_dataset,
    "path_as_arm": path_as_arm,
    "code_as_arm": code_as_arm,
}


def is_refused(name, folder):
    "Whether a crafted file is refused, and has run nothing."
    (folder / "in").mkdir(parents=True)
    try:
        CRAFTED[name](folder / "in", Evil(folder / "ran"))
    except Exception:  # whichever it is that its reader raises
        return [path.name for path in folder.iterdir()] == ["in"]
    return False
