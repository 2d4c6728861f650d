"""Outputs of the training commands claim no more than is known: intervals, spreads, counts, what was compared."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from training.benchmark.compact import compact
from training.benchmark.headline import compared, gain
from training.benchmark.legacy.run import legacy_table
from training.benchmark.legacy.trained_head import ARMS
from training.benchmark.markdown import PARTS, _few_cell, _mask_cells, brackets, interval_cell
from training.data.cache import open_cache
from training.data.compact import pack, unpack
from training.data.fingerprints import compare, make_ledger
from training.data.manifest import Row
from training.engine.dataloaders import step_batches
from training.errors import TrainingError
from training.pretrain import Run, pretrain
from training.recipes import RECIPES
from training.release.card import _averaged, _shortfall, verdict
from training.release.commands import labels_told
from training.release.figure import Dot, Panel, figure
from training.release.page_table import headline
from training.release.records import corpus_told
from training.reproduce import Comparison, _tell
from training.speed.on_gpu import QUICK, Gauge, _megabytes
from training.speed.plan import Plan, render
from training.study.table import Record, _cell

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
    masks = {"model": "m", "results": {"unet": {"frame": {"dice": told}}}}
    assert "*" not in "".join(_mask_cells({"kind": "masks", "rows": [masks]}, masks, "unet"))


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


def test_brackets_of_few_groups_and_deviations_of_one_draw():
    assert brackets(12) == "Brackets: 95 % bootstrap intervals over groups."
    assert "fewer than 10 they are too narrow" in brackets(9) and brackets(1).startswith("No intervals: 1 group ")
    assert _few_cell({"value": 0.5, "sd": 0.0, "members": [0.5]}) == "0.500"
    assert _few_cell({"value": 0.5, "sd": 0.0, "members": [0.5, 0.5]}) == "0.500 ± 0.000"


def report_on(part, difference, name="usbackbones/a"):
    row = row_with(difference, noise={"linear": {"clip": {"balanced_accuracy": 0.0}}}) | {"model": name}
    if difference is None:
        del row["results"]["linear"]["clip"]["balanced_accuracy"]["difference"]
    return {"task": "t", "rows": [row], "protocol": {"part": part}, "counts": {"test": {"groups": 20, "clips": 30}}}


def test_a_verdict_says_on_what_it_stands():
    beaten = {"value": 0.2, "low": 0.1, "high": 0.3}
    one, other, alone = report_on("test", beaten), report_on("unseen", beaten), report_on("test", None)
    assert "probe, on locked test groups: better" in verdict({"x": one}, "a")
    told = verdict({"x": one, "y": other, "z": alone}, "a")
    assert "on locked test groups (x, z), folds of groups that no weight of the table was pretrained on (y): " in told
    assert "not compared with them on z" in told and "not** better" not in told
    assert _shortfall({"z": alone}, "a") == "" and "locked" not in PARTS["unseen"]
    assert PARTS["unseen"] in headline("a", {"y": other}) and PARTS["inner"] in headline(
        "a", {"y": report_on("inner", beaten)}
    )


def test_a_start_at_a_labelled_weight_is_no_training_without_labels():
    weak = labels_told({"label_weight": 0.2}, ["a"])
    told = labels_told({"name": "simclr"}, [], weak)
    assert told == f"The weight at which it began: {weak}" and "No label" not in told
    assert labels_told({"name": "simclr"}, [], labels_told({}, [])) == "No label was used."


def test_shorter_runs_and_corpora_of_one():
    assert _averaged({"steps": 50}) == "all steps" and _averaged({"steps": 51}) == "the last 50 steps"
    corpus = {"clips": ["c"] * 1200, "frames": 1, "groups": ["7"], "patients": {"a": ["7"], "b": ["7"]}}
    assert corpus_told(corpus) == "1,200 clips (1 frame) of 2 groups"


def test_a_dot_without_an_interval_is_drawn_without_one():
    drawn = figure([Panel("t", "balanced accuracy of clips", {"m": Dot(0.5, math.nan, math.nan)})])
    assert "nan" not in drawn and "<circle" in drawn


def test_a_run_that_was_finished_is_not_done_again(cache, tmp_path, capsys):
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch="test_resnet", steps=1, batch=4, augment=replace(recipe.augment, size=32))
    for said in ("done: ", "finished earlier, nothing was computed"):
        pretrain(Run(recipe, cache, tmp_path / "run", workers=0), "smoke", progress=False)
        assert said in capsys.readouterr().out


def test_packing_says_what_jpeg_does_to_frames(cache, tmp_path, capsys):
    for image, packed, unpacked in (
        ("jpeg", "JPEG of quality 95, not exact: unpacked it is another cache", "which jpeg 95 has changed: another"),
        ("png", "PNG, exact", "as they were packed"),
    ):
        pack(cache, tmp_path / image, image)
        unpack(tmp_path / image, tmp_path / f"{image}-out")
        told = capsys.readouterr().out
        assert packed in told and unpacked in told and " 0 " not in told


def test_estimates_are_not_rounded_to_nothing_or_all():
    told = render(Plan(views_per_second=1e6, gpus=(1, 8), clips=100, epochs=1, frames=1, parameters=0.1))
    assert "takes <0.01 TB" in told and "| <0.1 |" in told and "| <0.01 | <0.1 | <1 |" in told
    assert "100%" not in told and render(Plan(8556, (1,), batch=256)).splitlines()[-1].count(">99%") == 1


@pytest.mark.parametrize(
    ("card", "share"),
    [
        ("NVIDIA H100 80GB HBM3", "<1% of bf16, >= 49% of bandwidth"),
        ("NVIDIA H100 PCIe", ""),  # has the same chip and a slower memory
    ],
)
def test_a_share_of_a_peak_is_of_the_very_card_and_never_rounded_up(card, share, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: card)
    assert Gauge(SimpleNamespace(type="cuda"), QUICK).share(1.0, 1e9, 0.499 * 3.35e12) == share
    assert _megabytes(1) == "1 MiB" and _megabytes(0) == ""


@pytest.mark.parametrize(("share", "known"), [(0.1, False), (0.4, True), (0.0, False)])
def test_a_validation_that_is_none_is_said(cache, caplog, share, known):
    recipe = replace(RECIPES["smoke"][1], arch="test_resnet", validation=share, batch=4)
    _, validation = step_batches(recipe, open_cache(cache))
    assert (validation is not None) == known
    assert ("too few for a loss, so there is no validation" in caplog.text) == (share > 0 and not known)


def test_a_mean_over_fewer_runs_than_the_row_has_says_so():
    found = {"linear": {"clip": 0.5}}
    records = [Record("uscl", ("x",), 1, seed, 0, 96, {"lung": found} if seed else {}) for seed in range(3)]
    assert _cell("lung", records, {}) == "0.50 of 2" and _cell("lung", records[1:], {}) == "0.50"
