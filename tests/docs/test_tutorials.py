"Each tutorial runs from its first cell to its last."

import pytest
from sharing import ROOT, run_notebook

TUTORIALS = sorted((ROOT / "nbs" / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, checkout, tmp_path):
    log = tmp_path / "log"
    assert run_notebook(checkout / path.relative_to(ROOT), checkout, log) == 0, log.read_text()
