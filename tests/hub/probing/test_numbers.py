"""Probing for a number: each item is predicted by a probe that never saw its group; the numbers are the slow form's."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.data.dataset import read_items
from usbackbones.data.targets import as_one_class
from usbackbones.features.extract import embed
from usbackbones.hub.backbone import build_backbone
from usbackbones.metrics.levels import scores
from usbackbones.probing.evaluate import divisions
from usbackbones.probing.probes import ridge_predict

MODELS = ("random:test_resnet", "random:test_vit")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Discs of different radius, two stills of each of twelve patients; the label is the radius in some unit."""
    folder = tmp_path_factory.mktemp("discs")
    rows, columns = np.indices((64, 64))
    lines = ["path,label,group"]
    for number in range(24):
        middle, radius = np.random.default_rng(number).integers(16, 48, 2), 5 + number / 2
        disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
        frame = np.where(disc, 230, phantom_clip(number, frames=1, size=64, kind="abdomen")[0])
        Image.fromarray(frame.astype(np.uint8)).save(folder / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{radius * 2.5},p{number % 12}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


def test_the_command_gives_the_slow_forms_numbers(table, tmp_path, capsys):
    out = tmp_path / "out"
    cli.main(["probe", str(table), "--model", *MODELS, "--folds", "3", "-o", str(out), "--json"])
    told = capsys.readouterr()
    assert "labels are 24 different numbers" in told.err
    done = json.loads(told.out)
    assert not done["joined"]
    items = read_items(table)
    y, groups = np.array([float(item.label) for item in items]), np.array([item.group for item in items])
    for name in MODELS:
        x = embed(build_backbone(name, None), [np.asarray(Image.open(item.path)) for item in items])
        predicted = np.zeros(len(y))
        for train, test in divisions(as_one_class(items), 3, 0):
            assert not set(groups[train]) & set(groups[test])
            predicted[test] = ridge_predict(x[train], y[train], groups[train], x[test], train)[0]
        wanted = scores(y, predicted, np.arange(len(y)), groups)["clip"]
        for metric, number in done["metrics"][name]["ridge"]["clip"].items():
            assert number["value"] == pytest.approx(wanted[metric], rel=1e-3, abs=1e-3)
            assert number["low"] <= number["high"]
        with (out / "predictions.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["model"] == name]
        np.testing.assert_allclose([float(row["predicted"]) for row in rows], predicted, rtol=1e-3)
    (difference,) = done["differences"].values()
    one, other = (done["metrics"][name]["ridge"]["clip"]["mae"]["value"] for name in MODELS)
    assert difference["ridge"]["clip"]["mae"]["value"] == pytest.approx(one - other)
    assert "Bland-Altman" in (out / "report.html").read_text()
    cli.main(["probe", str(table), "--model", *MODELS, "--folds", "3", "-o", str(out)])
    again = capsys.readouterr()
    assert "finished: nothing was done" in again.err and "by group: mae" in again.out


def test_few_labels_are_for_classes(table, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["probe", str(table), "--model", MODELS[0], "--shots", "5", "-o", str(tmp_path / "out")])
    assert "--shots 5: few labels are for classes" in capsys.readouterr().err
