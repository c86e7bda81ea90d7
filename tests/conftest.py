"What all tests share: one thread each, the smoke project built once, which tests stay together and which are slow."

import os
import subprocess

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run side by side

import pytest
from sharing import built_once, copy_checkout, copy_of, edit, run


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    "A folder that all processes of this session share."
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


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
    "The same after `dvc repro`. Copy it before you change it."

    def build(folder):
        copy_of(fresh, folder)
        code, output = run(folder, "dvc", "repro")
        assert code == 0, output[-3000:]

    return built_once(shared_folder / "finished" / "ada_repro", build)


@pytest.fixture
def checkout(tmp_path):
    "A copy of the checkout, to do things to."
    return copy_checkout(tmp_path / "checkout")
