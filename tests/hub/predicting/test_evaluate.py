"""Evaluation on an external set beside the numbers made from its own table of predictions."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.hub.predicting.conftest import timm_folder
from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.data.item import DataError
from usbackbones.predicting.evaluate import evaluate
from usbackbones.predicting.trained import PredictError, load_trained


@pytest.fixture
def external(tmp_path):
    """A table of 16 stills of 8 patients, from two scanners."""
    lines = ["path,label,patient_id,scanner"]
    for number in range(16):
        label = ("abdomen", "heart")[number // 2 % 2]
        name = f"e{number}.png"
        frame = phantom_clip(100 + number // 2, frames=number % 2 + 1, size=64, kind=label)[-1]
        (tmp_path / "named" / label).mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / name, tmp_path / "named" / label / name):
            Image.fromarray(frame).save(file)
        lines.append(f"{name},{label},P{number // 2},{'AB'[number // 4 % 2]}")
    (tmp_path / "external.csv").write_text("\n".join(lines))
    return tmp_path / "external.csv"


def test_the_metrics_are_those_of_its_predictions(classifier, external, tmp_path):
    done = evaluate(classifier, external, tmp_path / "out", by=("scanner",), progress=False)
    with (tmp_path / "out" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 16 and done.counts == {"clips": 16, "groups": 8, "seen": 0}
    right = {
        label: [row["prediction"] == label for row in rows if row["label"] == label] for label in ("abdomen", "heart")
    }
    assert done.metrics["clip"]["balanced_accuracy"]["value"] == pytest.approx(
        np.mean([np.mean(r) for r in right.values()])
    )
    cut = done.threshold["value"]
    called = [float(row["prob_heart"]) >= cut for row in rows]
    hearts = [row["label"] == "heart" for row in rows]
    found = done.rates["heart"]
    assert found["sensitivity"]["value"] == np.mean([c for c, h in zip(called, hearts, strict=True) if h])
    assert found["sensitivity"]["of"] == 8 and "fixed on the model's 40 validation items" in done.threshold["fixed_on"]
    assert {value: of["clips"] for value, of in done.subgroups["scanner"].items()} == {"A": 8, "B": 8}
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (
        told["weights_license"].startswith("CC-BY-NC-4.0") and "8 patients, by the column patient_id" in told["notes"]
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ROC" in page and "Reliability" in page and "By scanner" in page and "e1.png" not in page


def test_what_was_trained_on_is_counted(classifier, external, tmp_path):
    Image.fromarray(phantom_clip(0, frames=1, size=96)[0]).save(tmp_path / "e0.png")
    done = evaluate(classifier, external, tmp_path / "out", progress=False)
    assert done.counts["seen"] == 1 and any("these numbers are too good" in note for note in done.notes)


def test_labels_that_are_called_otherwise(classifier, external, tmp_path):
    whole = evaluate(classifier, external, tmp_path / "whole", progress=False)
    renamed = external.with_name("renamed.csv")
    text = external.read_text().replace(",heart,", ',"=Herz, \u00fcber",')
    renamed.write_text(text.replace("e0.png,abdomen", "e0.png,lung").replace("e1.png,abdomen", "e1.png,lung"))
    told = r"has the labels =Herz, \u00fcber, lung; the model knows abdomen, heart: one --map with '=Herz.*' lung=CLASS"
    with pytest.raises(DataError, match=told):
        evaluate(classifier, renamed, tmp_path / "x", progress=False)
    names = {"=Herz, \u00fcber": "heart", "lung": "abdomen"}
    again = evaluate(classifier, renamed, tmp_path / "again", names=names, progress=False)
    assert again.metrics == whole.metrics and again.rates == whole.rates
    fewer = evaluate(classifier, renamed, tmp_path / "fewer", names=names | {"lung": ""}, progress=False)
    assert fewer.counts["clips"] == 14 and "2 of 16 clips left out by --map" in fewer.notes
    for wrong, fault in (({"cat": "heart"}, "--map cat=heart"), ({"lung": "cat"}, "--map to cat")):
        with pytest.raises(DataError, match=fault):
            evaluate(classifier, renamed, tmp_path / "x", names=wrong, progress=False)


def test_odd_names_many_classes_and_one_that_the_set_lacks(external, tmp_path):
    names = ["a,b", 'c"d', "e\u00e9 =", "abdomen", "heart"]
    model = timm_folder(tmp_path / "many", names, task="classes")
    done = evaluate(model, external, tmp_path / "out", progress=False)
    assert set(done.rates) == set(names) and not done.threshold
    assert any(note.startswith('no clip of a,b, c"d, e\u00e9 = in external.csv') for note in done.notes)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) >= {f"prob_{name}" for name in names}
    assert sum(float(rows[0][f"prob_{name}"]) for name in names) == pytest.approx(1, abs=1e-5)
    right = {own: [row["prediction"] == own for row in rows if row["label"] == own] for own in ("abdomen", "heart")}
    value = done.metrics["clip"]["balanced_accuracy"]["value"]
    assert value == pytest.approx(np.mean([np.mean(hits) for hits in right.values()]))


@pytest.mark.parametrize(("only", "rate"), [("heart", "sensitivity"), ("abdomen", "specificity")])
def test_a_set_of_one_class(classifier, external, tmp_path, capsys, only, rate):
    """As of a screening site without findings: one rate, and what is not defined is called so."""
    for other in {"heart", "abdomen"} - {only}:
        shutil.rmtree(external.parent / "named" / other)
    cli.main(["evaluate", str(classifier), str(external.parent / "named"), "-o", str(tmp_path / "out")])
    told, noted = capsys.readouterr()
    with (tmp_path / "out" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    called = [float(row["prob_heart"]) >= metrics["threshold"]["value"] for row in rows]
    found = metrics["rates"]["heart"]
    assert {name for name in found if found[name]["value"] is not None} == {rate}
    assert found[rate]["value"] == np.mean(np.array(called) == (only == "heart")) and found[rate]["of"] == 8
    assert metrics["metrics"]["clip"]["auroc"]["value"] is None and "auroc not defined" in told
    assert "ppv not defined, npv not defined" in told and f"every clip of named is of {only}: " in noted
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ROC" not in page.replace("AUROC", "") and "not defined" in page


def test_the_threshold_of_the_folder_is_the_one_that_counts(classifier, external, tmp_path):
    """It was fixed on probabilities before the temperature; calls must be the same on both scales."""
    folder = shutil.copytree(classifier, tmp_path / "fixed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"usbackbones": {"task": "classes", "threshold": 0.7}}))
    trained = load_trained(folder)
    temperature = trained.calibration().temperature
    assert temperature > 1.5
    for positive, at in (("heart", 0.7), ("abdomen", 0.3)):
        done = evaluate(folder, external, tmp_path / positive, positive=positive, progress=False)
        odds = (at / (1 - at)) ** (1 / temperature)
        assert done.threshold["value"] == pytest.approx(odds / (1 + odds))
        assert "validation part of its training" in done.threshold["fixed_on"]


def test_refusals(classifier, external, tmp_path):
    (tmp_path / "other.csv").write_text("path,label\ne0.png,lung\ne1.png,heart\n")
    with pytest.raises(DataError, match="has the labels lung; the model knows abdomen, heart"):
        evaluate(classifier, tmp_path / "other.csv", tmp_path / "x", progress=False)
    with pytest.raises(PredictError, match="'lung' is none of the classes"):
        evaluate(classifier, external, tmp_path / "y", positive="lung", progress=False)
    with pytest.raises(DataError, match="lacks the column"):
        evaluate(classifier, external, tmp_path / "z", by=("ward",), progress=False)
    with pytest.raises(PredictError, match="is there already"):
        evaluate(classifier, external, tmp_path, progress=False)


def test_the_command(classifier, external, tmp_path, capsys):
    cli.main(["evaluate", str(classifier), str(external), "-o", str(tmp_path / "out"), "--by", "scanner"])
    told = capsys.readouterr()
    assert "heart: sensitivity" in told.out and "scanner A: balanced accuracy" in told.out
    assert "calibrated by temperature" in told.err and "by patient: " in told.out
    cli.main(
        [
            "evaluate",
            str(classifier),
            str(external.parent / "named"),
            "-o",
            str(tmp_path / "two"),
            "--group-from",
            "^(e1?)",
        ]
    )
    assert "by group: " in capsys.readouterr().out  # names are no proof of a patient
