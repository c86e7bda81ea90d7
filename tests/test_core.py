"The checks of arguments: what they take, and the one line they say to the rest. Names of runs."

import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from ada_repro.core import (
    DataError,
    Run,
    as_target,
    check_choice,
    check_number,
    check_tensor,
    run_named,
    whole_folder,
    write_json,
)
from ada_repro.measure.metrics import as_numbers
from ada_repro.method.mask import check_generator

SIGNS = ("absolute", "signed")
IMAGE = ("B", 1, "H", "W")


def says(check, *args, **options):
    "The one line a check says."
    with pytest.raises(ValueError) as e:
        check(*args, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_choices():
    assert check_choice("sign", "signed", SIGNS) == "signed"
    assert check_choice("sign", np.str_("signed"), dict.fromkeys(SIGNS)) == "signed"
    assert says(check_choice, "sign", "abs", SIGNS) == "sign must be one of 'absolute', 'signed', not 'abs'"
    for bad in (None, 1, [], {}, "Signed", "", "signed "):
        assert repr(bad) in says(check_choice, "sign", bad, SIGNS)


@pytest.mark.parametrize("value", [1, 40, np.int64(20), np.uint8(20), np.array(20), torch.tensor(20)])
def test_whole_numbers_of_every_kind_become_ints(value):
    size = check_number("size", value, 1, 40, whole=True)
    assert size == value and type(size) is int


@pytest.mark.parametrize(
    "bad", [0, 41, -1, 20.0, 20.5, "20", None, True, np.True_, torch.tensor(True), [20], np.ones(2)]
)
def test_what_is_no_whole_number_in_the_range(bad):
    line = says(check_number, "size", bad, 1, 40, whole=True)
    assert line.startswith("size must be a whole number") and line.endswith(f", not {bad!r}")


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), torch.tensor(0.5), np.float64(1)])
def test_numbers_come_back_as_they_were(value):
    assert check_number("dropout", value, 0, 1) is value


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf"), -float("inf"), "0.5", None, False, 1j, [0.5]])
def test_what_is_no_number_in_the_range(bad):
    assert says(check_number, "dropout", bad, 0, 1).endswith(f", not {bad!r}")


def test_ends():
    for ends, taken in (("[]", {0, 1}), ("[)", {0}), ("(]", {1}), ("()", set())):
        for value in (0, 1):
            if value in taken:
                check_number("threshold", value, 0, 1, ends=ends)
            else:
                line = says(check_number, "threshold", value, 0, 1, ends=ends)
                assert line == f"threshold must be a number in {ends[0]}0, 1{ends[1]}, not {value}"
    assert says(check_number, "rate", 0, 0, ends="(]") == "rate must be a number above 0, not 0"
    assert says(check_number, "epochs", 0, 1, whole=True) == "epochs must be a whole number of at least 1, not 0"
    assert says(check_number, "rate", 2, high=1) == "rate must be a number of at most 1, not 2"
    assert says(check_number, "rate", 1, high=1, ends="[)") == "rate must be a number below 1, not 1"
    assert check_number("rate", 10**30) == 10**30


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_floats(dtype):
    x = torch.zeros(3, 1, 8, 16, dtype=dtype, requires_grad=True)
    assert check_tensor("image", x, IMAGE) is x and check_tensor("image", x, (3, 1, 8, 16)) is x


@pytest.mark.parametrize(
    "bad, line",
    [
        (np.zeros((3, 1, 8, 8)), "image must be a torch tensor, not ndarray; torch.as_tensor(...) makes one"),
        (None, "image must be a torch tensor, not NoneType; torch.as_tensor(...) makes one"),
        (torch.zeros(3, 8, 8), "image must have the shape (B, 1, H, W), not (3, 8, 8)"),
        (torch.zeros(3, 2, 8, 8), "image must have the shape (B, 1, H, W), not (3, 2, 8, 8)"),
        (torch.zeros(()), "image must have the shape (B, 1, H, W), not ()"),
        (
            torch.zeros(3, 1, 8, 8, dtype=torch.uint8),
            "image must hold floating point numbers, not torch.uint8; use .float()",
        ),
        (torch.full((1, 1, 1, 2), torch.nan), "image must be finite, but holds nan at (0, 0, 0, 0)"),
        (torch.tensor([[[[0, -torch.inf]]]]), "image must be finite, but holds -inf at (0, 0, 0, 1)"),
    ],
)
def test_what_is_no_image(bad, line):
    assert says(check_tensor, "image", bad, IMAGE) == line


@pytest.mark.parametrize("library", [np, torch])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 3, 4)])
def test_targets_of_every_type(library, dtype, shape):
    target = library.zeros(shape, dtype=getattr(library, dtype))
    target[1, ..., 2, 3] = 1
    checked = as_target("target", target, (2, "H", "W"))
    assert checked.shape == (2, 3, 4) and str(checked.dtype) in ("bool", "torch.bool")
    assert checked[1, 2, 3] and checked.sum() == 1 and isinstance(checked, type(target))


@pytest.mark.parametrize("library", [np, torch])
@pytest.mark.parametrize("value", [0.5, 2, 255, -1, float("nan"), 1.0001])
def test_what_is_neither_zero_nor_one_is_no_target(library, value):
    target = library.zeros((1, 2, 2))
    target[0, 1, 1] = value
    line = says(as_target, "pred", target, ("B", "H", "W"))
    assert line.startswith("pred must hold only zeros and ones, but holds ") and line.endswith("e.g. pred > 0.5")


@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 3), (3, 2, 2), (1, 2, 2, 2), (1, 1, 1, 2, 2)])
def test_targets_of_another_shape(shape):
    line = says(as_target, "target", torch.zeros(shape, dtype=torch.bool), (1, 2, 2))
    assert line.startswith("target must have the shape (1, 2, 2), not (")


def test_what_is_no_array_is_no_target():
    assert "not list" in says(as_target, "target", [[0, 1]], ("H", "W"))
    assert "not NoneType" in says(as_target, "target", None, ("H", "W"))


SITES = [
    "paper",
    "UCL",
    "St. Mary's",
    "a-b",
    "-",
    "--",
    "3",
    "-1",
    "a-0",
    "Zürich",
    "a.b",
    "site 1 ",
    "gradcam-paper-0",
]


@pytest.mark.parametrize("fold", SITES)
@pytest.mark.parametrize("arm", ["baseline", "gradcam.forbid", "shuffled_guided_gradcam"])
@pytest.mark.parametrize("seed", [0, 12, 2**31 - 1])
def test_the_name_of_a_run_says_which_it_is(arm, fold, seed):
    run = Run(arm, fold, seed)
    assert run_named(run.name) == run and run.keys == {"arm": arm, "fold": fold, "seed": seed}


def test_runs_have_names_of_their_own():
    names = {Run(*told).name for told in product(("none", "none.again"), SITES, range(30))}
    assert len(names) == 2 * len(SITES) * 30


@pytest.mark.parametrize(
    "name", ["", "gradcam", "gradcam-0", "gradcam-paper", "gradcam--0", "-paper-0", "gradcam-paper-x"]
)
def test_what_names_no_run(name):
    assert says(run_named, name) == f"{name!r} names no run; <arm>-<fold>-<seed> does, such as gradcam-paper-0"


def test_the_core_does_not_import_torch():
    code = "import sys, ada_repro.core as c; c.check_number('n', 1, 0, 2); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_letter_is_the_same_size():
    assert check_tensor("image", torch.zeros(2, 1, 8, 8), ("B", 1, "N", "N")) is not None
    line = says(check_tensor, "image", torch.zeros(2, 1, 8, 9), ("B", 1, "N", "N"))
    assert line == "image must have the shape (B, 1, N, N), not (2, 1, 8, 9)"


def test_whether_all_is_finite_need_not_be_asked():
    check_tensor("image", torch.full((1, 1, 1, 1), torch.nan), IMAGE, finite=False)


# What people have, and what no message may do


@pytest.mark.parametrize("value", [np.array(["signed", "absolute"]), torch.zeros(30, 30), [["signed"] * 99], {"a": 1}])
def test_whatever_came_is_shown_on_one_line(value):
    for line in (says(check_choice, "sign", value, SIGNS), says(check_number, "size", value, 1, 4, whole=True)):
        assert "\n" not in line and len(line) < 300 and "ambiguous" not in line


def test_a_line_end_in_a_name_makes_no_second_line():
    assert str(DataError("a\nb.nii.gz", "is missing", "Put it there")) == "a\\nb.nii.gz: is missing. Put it there."
    assert str(DataError("süd/1.nii", "is missing", "Put it there")).startswith("süd/1.nii: ")


@pytest.mark.parametrize(
    "word, shown", [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\udcff", r"\udcff"), ("\u2028", r"\u2028")]
)
def test_no_word_of_a_message_makes_a_second_line(word, shown):
    line = str(DataError("süd", f"has several masks: {word}", f"Leave {word}"))
    assert line == f"süd: has several masks: {shown}. Leave {shown}." and line.encode()


def test_numbers_of_numpy_are_numbers_in_a_file(tmp_path):
    told = {"a": np.int64(2), "b": (np.float32(0.5), np.bool_(True)), "c": torch.tensor(3), "d": 0.1}
    write_json(tmp_path / "a.json", told)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2, "b": [0.5, True], "c": 3, "d": 0.1}


@pytest.mark.parametrize("there", ["nothing", "folder", "file"])
def test_a_link_to_a_folder_stays_one(there, tmp_path):
    (tmp_path / "link").symlink_to("scratch")
    if there == "folder":
        (tmp_path / "scratch").mkdir()
        (tmp_path / "scratch" / "old").touch()
    if there == "file":
        (tmp_path / "scratch").touch()
    with whole_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink() and [p.name for p in (tmp_path / "scratch").iterdir()] == ["new"]
    assert {p.name for p in tmp_path.iterdir()} == {"link", "scratch"}


def test_numbers_that_are_not_all_there():
    masked = np.ma.masked_array(np.eye(4), mask=np.eye(4) > 0)
    assert "masked" in says(as_target, "target", masked, ("H", "W"))
    assert "must hold pixels" in says(check_tensor, "image", torch.zeros(2, 1, 0, 8), IMAGE)
    assert check_tensor("image", torch.zeros(0, 1, 8, 8), IMAGE).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    "turn",
    [np.asarray, np.flipud, np.asfortranarray, lambda a: a.astype(">i4"), lambda a: a.astype(object), torch.tensor],
)
def test_a_target_becomes_a_tensor_beside_another(turn):
    square = np.zeros((4, 4))
    square[1, 2] = 1
    came = turn(square)
    target = as_target("target", came, (4, 4), like=torch.zeros(1))
    assert target.dtype == torch.bool and target.tolist() == (np.asarray(came) == 1).tolist()
    assert target.tolist() == as_target("target", came, (4, 4)).tolist()


def test_a_generator_is_one_of_torch():
    check_generator("generator", None)
    check_generator("generator", torch.Generator(), "cpu", needed=True)
    for wrong in (0, np.random.default_rng(0)):
        assert "must be a torch.Generator, not" in says(check_generator, "generator", wrong)
    assert "not NoneType" in says(check_generator, "generator", None, needed=True)


@pytest.mark.parametrize(
    "values",
    [
        [[1, None], [2, 3]],
        np.array([[1, np.nan], [2, 3]], np.float16),
        torch.tensor([[1, torch.nan], [2, 3]], dtype=torch.bfloat16, requires_grad=True),
        np.ma.masked_array([[1, 9], [2, 3]], mask=[[0, 1], [0, 0]]),
    ],
)
def test_numbers_of_any_kind(values):
    numbers = as_numbers("values", values)
    assert numbers.dtype == float and np.array_equal(numbers, [[1, np.nan], [2, 3]], equal_nan=True)


@pytest.mark.parametrize("values", [[[1, 2], [3]], ["1"], "1", np.eye(2) + 1j, [object()], np.inf, [1, -np.inf]])
def test_what_are_no_numbers(values):
    assert "\n" not in says(as_numbers, "values", values)
