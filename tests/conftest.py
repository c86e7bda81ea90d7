"What all tests share: one thread each, the smoke project built once, which tests stay together and which are slow."

import os
import subprocess
from pathlib import PurePath

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run side by side

import pytest
import torch
from sharing import built_once, copy_checkout, copy_of, edit, run
from xdist.scheduler import LoadScopeScheduling

GPU = torch.cuda.is_available()
if GPU:  # shown to the tests that ask for it; the others, and what they start, speak of the CPU and its bits
    torch.cuda.init()
    torch.cuda.device_count()  # is remembered
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.cuda.is_available = bool  # False

# Left out by `make check`: what starts processes of its own, and what took more than two seconds when measured.
SLOW_FIXTURES = {
    "compiler",
    "study",
    "scored",
    "scene",
    "finished",
    "fresh",
    "stages",
    "repository",
    "chain",
    "waiting",
    "plain",
    "cluster",
    "srun",
    "slurm",
    "task",
    "tasks",
    "undisturbed",
    "listening",
    "project",
    "committed",
    "site",
}
SLOW_TESTS = {
    "test_resampling_has_the_same_bits_on_every_processor",
    "test_check_from_the_command_line",
    "test_noise_alone_does_not_stand",
    "test_the_last_epoch_is_not_judged",
    "test_verdicts_are_those_of_the_paper_unless_one_would_differ",
    "test_every_transposed_or_shifted_open_mask_is_refused",
    "test_inside_and_outside_by_taking_pixels_out",
    "test_equal_weights_are_scored_alike_and_others_apart",
    "test_broken_slices_are_refused",
    "test_open_data_prepared",
    "test_a_changed_raw_file_is_noticed",
    "test_a_crafted_file_runs_nothing",
    "test_a_phantom_is_cropped_around_its_cord_and_the_challenge_is_not",
    "test_an_interval_decides_until_it_leaves_the_tolerance_of_the_rule",
    "test_a_stage_that_makes_nothing_has_failed",
    "test_a_stage_names_every_module_that_it_loads",
    "test_any_other_network_is_shown_whole_copies",
    "test_both_notebooks_on_made_up_runs",
    "test_continued_runs_end_with_the_same_bits",
    "test_equals_all_copies_at_once",
    "test_each_line_of_a_command_has_a_shell_of_its_own_as_plain_dvc_gives_it",
    "test_every_arm_runs_to_the_end",
    "test_flips_and_truncations_never_load_wrong",
    "test_flips_and_truncations_of_a_real_scan_never_load_wrong",
    "test_head_killed_between_the_end_of_a_stage_and_its_entry",
    "test_killed_inside_a_checkpoint",
    "test_maps_do_not_depend_on_the_batches",
    "test_memory_stays_flat_over_attributions",
    "test_no_variable_name_is_written_into_a_figure",
    "test_notebook_runs",
    "test_realism_counts_every_real_slice",
    "test_realism_is_of_phantoms_alone",
    "test_same_input_same_bytes",
    "test_shuffled_windows_are_the_methods_own_of_other_images",
    "test_the_notebook",
    "test_tutorial_runs",
    "test_they_are_found_from_any_folder",
    "test_nobody_answers",
    "test_pieces_of_a_log",
    "test_the_lock_is_that_of_dvc_whoever_ends_first",
    "test_windows_equal_whole_copies",
}


def pytest_collection_modifyitems(items):
    "Mark the slow ones, and begin with them."
    for item in items:
        fixtures = set(item.fixturenames)
        if item.originalname in SLOW_TESTS or fixtures & SLOW_FIXTURES or item.path.parent.name == "docs":
            item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class Together(LoadScopeScheduling):
    "Hands tests out one by one, but all at once that share what is costly to make."

    def _split_scope(self, nodeid):
        path = PurePath(nodeid.partition("::")[0])
        if path.stem in ("test_code", "test_finished", "test_views"):
            return "finished"
        together = path.parent.name == "measure" or path.stem == "test_site"  # trains a network; builds the site
        return path.stem if together else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    "A folder that all processes of this session share."
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def gpu(monkeypatch):
    "For a test of what a GPU does."
    if not GPU:
        pytest.skip("no GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def build_fresh(folder):
    copy_checkout(folder)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    edit(folder, profile=("profile: *laptop", "profile: *smoke"))


@pytest.fixture(scope="session")
def fresh(shared_folder):
    "What a fresh clone holds, set to the smoke profile by one word. Copy it before you change it."
    return built_once(shared_folder / "fresh" / "ada_repro", build_fresh)


@pytest.fixture(scope="session")
def finished(fresh, shared_folder):
    "The same after what `make repro` runs. Copy it before you change it."

    def build(folder):
        copy_of(fresh, folder)
        code, output = run(folder, "ada_repro.pipeline.start")
        assert code == 0, output[-3000:]

    return built_once(shared_folder / "finished" / "ada_repro", build)


@pytest.fixture
def checkout(tmp_path):
    "A copy of the checkout, to do things to."
    return copy_checkout(tmp_path / "checkout")
