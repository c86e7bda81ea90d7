'The streamed evaluation against all copies made at once and scored one by one.'
import numpy as np
import pandas as pd
import pytest
import torch

from ada_repro.data import Slices
from ada_repro.mask import build_robustness_data, occlusion_grid
from ada_repro.metrics import score
from ada_repro.phantom import phantom_slices
from ada_repro.robustness import cell_groups, evaluate
from ada_repro.training import new_state, predict, train


@pytest.fixture(scope='module')
def scored():
    images, targets = phantom_slices(12, px=40, spacing_mm=1., seed=0)
    table = pd.DataFrame(dict(site='1', subject=[f's{i//4}' for i in range(12)], slice=range(12), spacing_mm=1., split='val'))
    slices = Slices(images, targets, table.assign(person=table.subject))
    state = new_state(width=4, dropout=0., bn_momentum=0.4, lr=0.01, seed=0)
    list(train(state, slices, slices, arm='none', seed=0, standard_epochs=24, cycles=0, ada_epochs=0, size=5, batch_size=4))
    return slices, state.model, *evaluate(state.model, slices, size=5, near_px=2.5)


def test_equals_all_copies_at_once(scored):
    slices, model, rows, _ = scored
    copies = build_robustness_data(slices.images, 5)
    for i in range(12):
        mine = rows[(rows.slice == i) & rows.group.isin(['touching', 'near', 'far'])]
        naive = pd.DataFrame([score(predict(model, c[i:i+1])[0], slices.consensus[i], (1., 1.)) for c in copies])
        assert mine.cells.sum() == len(copies) == 64
        assert np.isclose((mine.DSC * mine.cells).sum() / 64, naive.DSC.mean(), atol=1e-6)
        assert np.isclose((mine.TNR * mine.cells).sum() / 64, naive.TNR.mean(), atol=1e-6)
        defined = mine.cells - mine['empty']
        assert defined.sum() == naive.PPV.notna().sum()
        if defined.sum(): assert np.isclose(np.nansum(mine.HSD * defined) / defined.sum(), naive.HSD.mean(), atol=1e-6)


def test_original_and_context(scored):
    slices, model, rows, preds = scored
    pred = predict(model, slices.images)
    assert np.array_equal(preds[:, 0], pred.numpy())
    assert np.array_equal(preds[:, 1], predict(model, slices.images * slices.consensus[:, None]).numpy())
    for i, row in enumerate(rows[rows.group == 'original'].itertuples()):
        assert row.DSC == pytest.approx(score(pred[i], slices.consensus[i], (1., 1.))['DSC'])
        assert row.DSC_raters == pytest.approx(np.mean([score(pred[i], t, (1., 1.))['DSC'] for t in slices.targets[i]]))


def test_the_network_found_something(scored):
    assert scored[2].query("group == 'original'").DSC.mean() > 20    # else the comparisons above compare nothing


@pytest.mark.parametrize('n, size', [(40, 5), (40, 7)])
def test_groups_by_brute_force(n, size):
    target = torch.zeros(n, n, dtype=torch.bool); target[17:21, 12:26] = True
    at = target.nonzero().numpy()
    for (r, c), group in zip(occlusion_grid(n, size), cell_groups(target, size, near_px=3)):
        closest = min(np.hypot(*(at - (y, x)).T).min() for y in range(r, min(r+size, n)) for x in range(c, min(c+size, n)))
        assert group == ('touching' if closest == 0 else 'near' if closest <= 3 else 'far')
