"""Probing labelled data from the command line: divisions that do not leak, numbers, files, and pairs of models."""

import csv
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.conftest import Published
from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError
from usbackbones.features.extract import embed
from usbackbones.metrics.levels import scores
from usbackbones.probing.evaluate import ProbeSpec, divisions
from usbackbones.probing.probes import knn_predict, linear_predict
from usbackbones.probing.run import probe


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve patients of two classes, two stills of each."""
    folder = tmp_path_factory.mktemp("data")
    for patient in range(12):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(exist_ok=True)
        for number, frame in enumerate(phantom_clip(patient, frames=2, size=64, kind=kind)):
            Image.fromarray(frame).save(folder / kind / f"p{patient:02d}_{number}.png")
    return folder


@pytest.fixture(scope="module")
def items(data):
    return read_items(data, "^(p[0-9]+)_")


def network(seed):
    torch.manual_seed(seed)
    model = timm.create_model("resnet18", num_classes=0)
    model.pretrained_cfg = model.pretrained_cfg | {"input_size": (3, 32, 32)}
    return model


def parted(items, data, parts):
    """A table in which the patient decides the split."""
    rows = [[item.path, item.label, item.group, parts(item, number)] for number, item in enumerate(items)]
    with (data / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", "group", "split"], *rows])
    return read_items(data / "table.csv")


def test_folds_never_divide_a_group(items):
    groups = np.array([item.group for item in items])
    found = divisions(items, 4, 0)
    assert len(found) == 4
    for train, test in found:
        assert not set(groups[train]) & set(groups[test])
        assert len({items[n].label for n in train}) == 2
    assert sorted(n for _, test in found for n in test) == list(range(len(items)))


def test_a_split_of_the_data_is_kept_and_a_leak_refused(items, tmp_path):
    late = {f"p{n:02d}" for n in range(8, 12)}
    ((train, test),) = divisions(
        parted(items, tmp_path, lambda item, n: "test" if item.group in late else "train"), 5, 0
    )
    assert {items[n].group for n in test} == late and len(train) == 16
    with pytest.raises(DataError, match="stand on both sides"):
        divisions(parted(items, tmp_path, lambda item, n: ("train", "test")[n % 2]), 5, 0)
    with pytest.raises(DataError, match="no item to fit heart on"):
        divisions(parted(items, tmp_path, lambda item, n: "test" if item.label == "heart" else "train"), 5, 0)
    with pytest.raises(DataError, match="every row"):
        divisions(parted(items, tmp_path, lambda item, n: "test" if item.group in late else ""), 5, 0)


def test_a_class_of_one_group_cannot_be_judged(items):
    with pytest.raises(DataError, match="heart: give two groups"):
        divisions([item for item in items if item.label == "abdomen" or item.group == "p01"], 3, 0)


def test_the_numbers_are_those_of_the_slow_form(items, tmp_path):
    model = network(0)
    done = probe(items, {"m": model}, tmp_path, ProbeSpec(folds=3), progress=False)
    x = embed(model, [np.asarray(Image.open(item.path)) for item in items])
    y = np.array([("abdomen", "heart").index(item.label) for item in items])
    groups = np.array([item.group for item in items])
    near, line = np.zeros((len(y), 2)), np.zeros((len(y), 2))
    for train, test in divisions(items, 3, 0):
        near[test] = knn_predict(x[train], y[train], x[test])
        line[test] = linear_predict(x[train], y[train], groups[train], x[test], train)[0]
    for kind, probability in (("knn", near), ("linear", line)):
        expected = scores(y, probability, np.arange(len(y)), groups)
        for level, metrics in expected.items():
            for metric, value in metrics.items():
                found = done.metrics["m"][kind][level][metric]
                assert found["value"] == pytest.approx(value, abs=1e-4)
                assert found["low"] <= found["high"]
    with (tmp_path / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(items)
    told = np.array(
        [[float(row["prob_abdomen"]), float(row["prob_heart"])] for row in rows if row["probe"] == "linear"]
    )
    np.testing.assert_allclose(told, line, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json",
        "predictions.csv",
        "report.html",
        "run.json",
    ]


def test_test_labels_change_no_prediction(items, tmp_path):
    """The probabilities of the judged part stay when its labels are exchanged."""
    late = {f"p{n:02d}" for n in range(8, 12)}

    def predicted(name, exchange):
        folder = tmp_path / name
        folder.mkdir()
        rows = parted(items, folder, lambda item, n: "test" if item.group in late else "train")
        other = {"abdomen": "heart", "heart": "abdomen"}
        given = [
            type(item)(
                item.path, other[item.label] if exchange and item.part == "test" else item.label, item.group, item.part
            )
            for item in rows
        ]
        out = folder / "out"
        probe(given, {"m": network(0)}, out, ProbeSpec(shots=("2",), repeats=2), progress=False)
        with (out / "predictions.csv").open() as stream:
            return [(row["path"], row["probe"], row["prob_heart"]) for row in csv.DictReader(stream)]

    assert predicted("a", False) == predicted("b", True)


@pytest.mark.parametrize("pictures", [False, True])
def test_the_report_names_nobody_unless_asked(items, tmp_path, pictures):
    models = {"one": network(0), "local-dir:/home/somebody/other": network(1)}
    done = probe(items, models, tmp_path, ProbeSpec(folds=2), progress=False, pictures=pictures)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for of_probe in done.metrics.values():
        told = of_probe["linear"]["patient"]["auroc"]
        ends = f"[{told['low']:.3f}, {told['high']:.3f}]" if told["low"] < told["high"] else "(no interval"
        assert f"{told['value']:.3f} {ends}" in text
    for name in ("one", "other"):
        for heading in ("Confusion", "Classes", "Reliability", "Map of the features", "Neighbors"):
            assert f">{name}: {heading}</h2>" in text
    assert ">Differences</h2>" in text and "/home/somebody" not in text
    assert ("p00" in text) == ("data:image/jpeg" in text) == pictures


def test_models_are_compared_in_pairs_and_few_shots_are_repeated(items, tmp_path):
    spec = ProbeSpec(folds=2, shots=("1",), repeats=2)
    done = probe(items, {"one": network(0), "same": network(0), "other": network(1)}, tmp_path, spec, progress=False)
    assert set(done.metrics["one"]) == {"knn", "linear", "knn 1 shots", "linear 1 shots"}
    assert set(done.differences) == {"one - same", "one - other", "same - other"}
    zero = {"value": 0.0, "low": 0.0, "high": 0.0}
    for levels in done.differences["one - same"].values():
        assert all(number == zero for metrics in levels.values() for number in metrics.values())
    pair = done.differences["one - other"]["knn"]["clip"]["auroc"]
    metrics = [done.metrics[name]["knn"]["clip"]["auroc"]["value"] for name in ("one", "other")]
    assert pair["value"] == pytest.approx(metrics[0] - metrics[1])


def test_the_command(data, tmp_path, published, capsys):
    (data / "heart" / "p13_0.png").write_bytes(b"no picture")
    models = ["--model", Published.resnet, f"usbackbones/{Published.vit}"]
    given = ["probe", str(data), *models, "--group-from", "^(p[0-9]+)_", "--folds", "2", "-o", str(tmp_path / "out")]
    cli.main([*given, "--json"])
    told, err = capsys.readouterr()
    told = json.loads(told)
    assert list(told["metrics"]) == [f"usbackbones/{Published.resnet}", f"usbackbones/{Published.vit}"]
    assert told["counts"]["abdomen"] == {"items": 12, "groups": 6}
    assert "skipped: " in err and "p13_0.png" in err
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["metrics"] == told["metrics"] and written["differences"] == told["differences"]
    (data / "heart" / "p13_0.png").unlink()


def test_the_table_has_a_row_a_model_and_chance_and_a_folder_is_for_one_run(data, published, tmp_path, capsys):
    """The same command changes nothing; another one is refused, and so is a folder that is a file."""
    given = ["probe", str(data), "--model", "random:test_resnet", "random:test_vit", "--folds", "2", "-o"]
    cli.main([*given, str(tmp_path / "out"), "--group-from", "^(p[0-9]+)_"])
    out, err = capsys.readouterr()
    assert "note: 12 groups, by file names" in err and "abdomen: 12 items of 6 groups" in out
    table = [line.split("  ")[0] for line in out.splitlines()]
    rows = ["balanced accuracy by group", "random:test_resnet", "random:test_vit", "chance"]
    assert table[table.index(rows[0]) :][:5] == [*rows, "random:test_resnet - random:test_vit"]
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    cli.main([*given, str(tmp_path / "out"), "--group-from", "^(p[0-9]+)_"])
    again, err = capsys.readouterr()
    assert again == out and "holds this very run, finished: nothing was done" in err
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    (tmp_path / "file").write_text("somebody's")
    for folder, told in (("out", "holds a run of other data or settings (items differ)"), ("file", "is a file")):
        with pytest.raises(SystemExit):
            cli.main([*given, str(tmp_path / folder)])
        assert told in capsys.readouterr().err.splitlines()[-1]
    cli.main([*given, str(tmp_path / "alone")])
    out, err = capsys.readouterr()
    assert "every file counts as a patient of its own (24 files)" in err
    assert (
        "abdomen: 12 items\n" in out
        and "balanced accuracy by clip" in out
        and "over 24 files, each taken for a patient of its own" in out
    )
    told = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    assert set(told["metrics"]["random:test_vit"]["knn"]) == {"frame", "clip"}
    assert "by patient" not in out + err + (tmp_path / "alone" / "report.html").read_text()
