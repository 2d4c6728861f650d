"""How fine-tuning begins: from the frozen probe, with a decay that fits the depth and the best of three rates."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from tests.hub.finetuning.test_finetune import QUICK, backbones, data, run  # noqa: F401
from usbackbones.cli import main as cli
from usbackbones.finetuning.optimizer import decay_for_depth
from usbackbones.finetuning.run import FineTuned
from usbackbones.finetuning.start import FRACTIONS
from usbackbones.finetuning.target import best_threshold

PROBE = replace(QUICK, start="probe")


def test_a_run_that_learns_nothing_is_its_frozen_probe(run, tmp_path):  # noqa: F811
    """The head is in the network before the first epoch, and both are evaluated alike."""
    done = run(tmp_path, replace(PROBE, lr=0.0, epochs=1))
    assert done.frozen == done.metrics
    assert done.frozen["clip"]["auroc"]["value"] > 0.6
    assert done.below_frozen == ""


def test_the_frozen_probe_competes_for_the_best_weights(run, tmp_path):  # noqa: F811
    """Epochs that destroy the network do not replace the start."""
    done = run(tmp_path, replace(PROBE, lr=100.0, epochs=2, ema=0.0))
    told = json.loads((tmp_path / "metrics.json").read_text())
    history = json.loads((tmp_path / "history.json").read_text())
    assert told["best validation"] >= max(record["validation"] for record in history)
    assert done.metrics == done.frozen


def test_a_result_below_the_frozen_probe_is_told():
    numbers = {"clip": {"balanced_accuracy": {"value": 0.4}}}, {"clip": {"balanced_accuracy": {"value": 0.43}}}
    below = FineTuned("out", ("a", "b"), numbers[0], {}, 3, 1e-3, (), frozen=numbers[1]).below_frozen
    assert "0.400 is below the 0.430 of its own frozen probe" in below
    assert FineTuned("out", ("a", "b"), numbers[1], {}, 3, 1e-3, (), frozen=numbers[0]).below_frozen == ""


def test_the_learning_rate_is_chosen_by_short_runs_that_leave_no_trace(run, tmp_path):  # noqa: F811
    spec = replace(PROBE, search=True, epochs=4, lr=0.03)
    done = run(tmp_path / "search", spec)
    assert done.lr in [pytest.approx(0.03 * fraction) for fraction in FRACTIONS]
    alone = run(tmp_path / "alone", replace(spec, search=False, lr=done.lr))
    assert (tmp_path / "search" / "model.safetensors").read_bytes() == (
        tmp_path / "alone" / "model.safetensors"
    ).read_bytes()
    assert alone.metrics == done.metrics and not (tmp_path / "search" / "trials").exists()


def test_decay_reaches_as_low_in_a_deep_net_as_in_one_of_ten_layers():
    for layers in (2, 10, 14, 18, 50):
        lowest = decay_for_depth(0.7, layers) ** (layers - 1)
        assert lowest == pytest.approx(0.7 ** (min(layers, 10) - 1))


def test_the_threshold_is_the_slow_forms():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, p = rng.permutation(np.arange(12) < 5), rng.random(12).round(1)
        accuracy = {t: ((p >= t)[positive].mean() + (p < t)[~positive].mean()) / 2 for t in [0.5, *p[p > p.min()]]}
        t = best_threshold(positive, p)
        found = ((p >= t)[positive].mean() + (p < t)[~positive].mean()) / 2
        assert found == pytest.approx(max(accuracy.values()))


def test_a_number_is_learned_and_the_folder_gives_its_unit(data, backbones, tmp_path, capsys):  # noqa: F811
    """Labels far from zero in some unit; MAE, R2 and limits of agreement; what was decided is told."""
    rows = ["path,circumference,group"]
    for number, file in enumerate(sorted(data.rglob("*.png"), key=lambda file: file.name)):
        rows.append(f"{file},{300 + 40 * (file.parent.name == 'heart') + number / 10},{file.name[:3]}")
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text("\n".join(rows))
    model = ["--model", backbones["test_resnet"], "--epochs", "2", "--lr", "0.001"]
    model += ["--label", "circumference", "--unit", "mm"]
    cli.main(["finetune", str(table), *model, "-o", str(out)])
    told = capsys.readouterr()
    assert "60 different numbers, from 300 to 345.9: predicted as a number" in told.err
    assert "test, frozen probe, by clip: mae" in told.out and "limit low" in told.out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["task"] == "number" and metrics["metrics"]["clip"]["mae"]["value"] < 30
    config = json.loads((out / "config.json").read_text())
    assert config["usbackbones"]["task"] == "number" and config["num_classes"] == 1
    network = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    size = network.pretrained_cfg["input_size"]
    with torch.no_grad():
        assert 200 < float(network(torch.zeros(1, *size))) < 450
    report = (out / "report.html").read_text()
    assert "Bland-Altman" in report and "Confusion" not in report
    with (out / "predictions.csv").open() as stream:
        tested = [row for row in csv.DictReader(stream) if row["part"] == "test"]
    y, p = (np.array([float(row[key]) for row in tested], np.float64) for key in ("label", "predicted"))
    for metric, wanted in (
        ("mae", np.abs(p - y).mean()), ("bias", (p - y).mean()),
        ("r2", 1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()),
        ("limit_high", (p - y).mean() + 1.96 * (p - y).std(ddof=1)),
    ):  # fmt: skip
        assert metrics["metrics"]["clip"][metric]["value"] == pytest.approx(wanted, rel=1e-3)
    cli.main(["predict", str(out), str(table), "-o", str(tmp_path / "new.csv")])
    with (tmp_path / "new.clips.csv").open() as stream:
        again = {row["file"]: float(row["value_circumference_mm"]) for row in csv.DictReader(stream)}
    assert [again[row["path"]] for row in tested] == pytest.approx(p, abs=1e-2)  # not in bf16, whose steps are 2 here


def test_the_folder_says_its_task_and_threshold(run, tmp_path):  # noqa: F811
    run(tmp_path, replace(PROBE, epochs=1))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == ["abdomen", "heart"]
    assert config["usbackbones"]["task"] == "classes" and 0 < config["usbackbones"]["threshold"] < 1
