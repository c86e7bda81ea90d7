"What all tests share: one thread each, the smoke project built once, which tests stay together and which are slow."

import os
import subprocess
from pathlib import PurePath

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run side by side

import pytest
from sharing import built_once, copy_checkout, copy_of, edit, run
from xdist.scheduler import LoadScopeScheduling

# Left out by `make check`: what starts processes of its own, and what took more than two seconds when measured.
SLOW_FIXTURES = {"finished", "fresh", "stages", "repository", "chain", "undisturbed", "site"}
SLOW_TESTS = {
    "test_a_changed_raw_file_is_noticed",
    "test_a_crafted_file_runs_nothing",
    "test_a_phantom_is_cropped_around_its_cord_and_the_challenge_is_not",
    "test_an_interval_decides_until_it_leaves_the_tolerance_of_the_rule",
    "test_a_stage_names_every_module_that_it_loads",
    "test_any_other_network_is_shown_whole_copies",
    "test_both_notebooks_on_made_up_runs",
    "test_continued_runs_end_with_the_same_bits",
    "test_equals_all_copies_at_once",
    "test_every_arm_runs_to_the_end",
    "test_flips_and_truncations_never_load_wrong",
    "test_flips_and_truncations_of_a_real_scan_never_load_wrong",
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
    "test_windows_equal_whole_copies",
}


def pytest_collection_modifyitems(items):
    "Mark the slow ones, and begin with them."
    for item in items:
        fixtures = set(item.fixturenames)
        if item.originalname in SLOW_TESTS or fixtures & SLOW_FIXTURES:
            item.add_marker("slow")
