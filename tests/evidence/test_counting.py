"What counting takes away, against pixels."

from itertools import product

import numpy as np
import pandas as pd
import pytest

from ada_repro.evidence.counting import counting_null
from ada_repro.evidence.scores import made_up_scores, per_slice

seeds = pytest.mark.parametrize("seed", range(5))


@seeds
def test_counting_null_against_pixels(seed):
    "TPR is exact; DSC is exact where the hits are spread evenly, and never too low."
    rng, cell = np.random.default_rng(seed), 5
    target = np.zeros((20, 20), bool)
    target[4:12, 3:15] = True
    pred = (target & (rng.random((20, 20)) < 0.9)) | (rng.random((20, 20)) < 0.05)

    def ratios(p):
        return dict(
            zip(
                ("DSC", "TPR", "PPV"),
                100 * (p & target).sum() / np.array([(p.sum() + target.sum()) / 2, target.sum(), p.sum()]),
                strict=True,
            )
        )

    copies, touching = [], 0
    for r, c in product(range(0, 20, cell), repeat=2):
        hidden = np.zeros_like(target)
        hidden[r : r + cell, c : c + cell] = True
        copies.append(ratios(pred & ~(hidden & target)))
        touching += (hidden & target).any()
    row = dict(
        arm="none",
        seed=0,
        weights="best",
        site="s",
        subject="a",
        slice=0,
        empty=0,
        HSD=1.0,
        HSD_rows=1.0,
        TNR=99.0,
        DSC_raters=np.nan,
        **ratios(pred),
    )
    scores = pd.DataFrame(
        [
            row | {"group": g, "cells": n}
            for g, n in (("original", 1), ("touching", touching), ("near", 16 - touching), ("far", 0))
        ]
    )
    null, exact = per_slice(counting_null(scores)).iloc[0], pd.DataFrame(copies).mean()
    assert null.TPR == pytest.approx(exact.TPR) == pytest.approx(row["TPR"] * (1 - 1 / 16))
    assert exact.DSC - 1e-9 <= null.DSC < exact.DSC + 1 and null.TNR == 99 and np.isnan(null.HSD)


def test_keys_of_the_scores_are_kept():
    scores = made_up_scores(["none"], (0, 1)).assign(person="one", fold="paper")
    null = counting_null(scores)
    assert (null.person == "one").all() and len(null) == 3 * len(scores) / 4
    assert not null.duplicated(["seed", "weights", "subject", "slice", "group"]).any()
