"""Outputs of the training commands claim no more than is known: intervals, spreads, counts, what was compared."""

import math

import numpy as np
import pytest

from training.benchmark.compact import compact
from training.benchmark.dense.run import _cells
from training.benchmark.legacy.run import legacy_table
from training.benchmark.legacy.trained_head import ARMS
from training.benchmark.markdown import compared, gain, interval_cell
from training.data.fingerprints import compare, make_ledger
from training.data.manifest import Row
from training.errors import TrainingError
from training.reproduce import Comparison, _tell

WHERE = ("linear", "clip", "balanced_accuracy")


def row_with(difference, **more):
    told = {"value": 0.7, "low": 0.6, "high": 0.8, "difference": difference}
    return {"model": "m", "results": {"linear": {"clip": {"balanced_accuracy": told}}}, **more}


def test_without_an_interval_nothing_is_better():
    """One group gives no interval: its ends are NaN, which no comparison holds to be on one side of zero."""
    row = row_with({"value": 0.2, "low": math.nan, "high": math.nan})
    assert compared(row, "difference", *WHERE) == "" and gain(row, *WHERE) == ""
    assert interval_cell(row["results"]["linear"]["clip"]["balanced_accuracy"]["difference"]) == "0.200 (no interval)"
    assert interval_cell({"value": 1.0, "low": 1.0, "high": 1.0}) == "1.000 [1.000, 1.000]"  # as published


def test_one_random_network_has_no_spread_to_exceed():
    row = row_with({"value": 0.2, "low": 0.1, "high": 0.3})
    assert gain(row, *WHERE) == "interval" and "| m | *0.70* |" in compact({"lung": {"rows": [row], "command": "c"}})
    told = {"value": 0.7, "low": 0.6, "high": 0.8, "difference": {"value": 0.0, "low": -0.1, "high": 0.1}}
    assert "*" not in "".join(_cells({"model": "m", "overlap": "none", "results": {"dice": told}}, ["dice"]))


@pytest.mark.parametrize(("seeds", "cell"), [(1, "| 50.0 |"), (2, "| 50.0 ± 0.0 |")])
def test_one_seed_has_no_deviation(seeds, cell):
    score = {"accuracy": 0.5, "balanced accuracy": 0.5}
    report = {"on": "x", "trained": "y", "seeds": seeds, "command": "c"}
    report["training"] = {"epochs": 1, "batch": 1, "lr": 1.0, "folds": 2}
    report["rows"] = [{"model": "m", "arms": {arm: [score] * seeds for arm in ARMS}}]
    assert cell in legacy_table(report) and ("± deviation" in legacy_table(report)) == (seeds > 1)


def test_a_loss_that_is_not_finite_is_never_near(capsys):
    """Python's largest of 0.001 and NaN is 0.001."""
    with pytest.raises(TrainingError, match="not finite"):
        _tell(Comparison([1.0, 1.0], [1.001, math.nan]), ["cpu"])
    _tell(Comparison([1.0], [1.0 + 1e-9]), ["torch"])
    told = capsys.readouterr().out
    assert "<0.01% apart at most over 1 step. Other than at the release: torch" in told


def test_nothing_compared_is_not_clean():
    clip = np.random.default_rng(0).integers(0, 255, (2, 64, 64), dtype=np.uint8)
    ledger, empty = make_ledger([(Row("", "x", "p"), clip)], 2), make_ledger([], 2)
    assert compare(ledger, empty).verdict == compare(empty, ledger).verdict == "unknown"
