"""A segmenter on an external set, beside metrics made from the masks that it wrote, pixel by pixel."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.hub.predicting.conftest import structures
from usbackbones.cli import main as cli
from usbackbones.data.item import DataError
from usbackbones.predicting.evaluate import evaluate
from usbackbones.predicting.run import predict


@pytest.fixture
def external(tmp_path):
    return structures(tmp_path / "external", first=30, count=6) / "table.csv"


def dice(found, truth):
    both = sum(a and b for a, b in zip(found.flat, truth.flat, strict=True))
    return 2 * both / (found.sum() + truth.sum()) if found.any() or truth.any() else 1.0


def test_the_metrics_are_those_of_its_masks(segmenter, external, tmp_path):
    out = tmp_path / "out"
    done = evaluate(segmenter, external, out, by=("scanner",), batch=4, progress=False)
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    of, error, patient = {"nerve": [], "artery": []}, {"nerve": [], "artery": []}, []
    for row in rows:
        found = np.asarray(Image.open(out / row["mask"]))
        truth = np.asarray(Image.open(row["path"].replace("images", "masks")))
        for number, name in ((1, "nerve"), (2, "artery")):
            of[name].append(dice(found == number, truth == number))
            error[name].append(0.1 * (int((found == number).sum()) - int((truth == number).sum())))
            assert float(row[f"dice_{name}"]) == pytest.approx(of[name][-1], abs=1e-5)
            assert float(row[f"area_mm2_{name}"]) == pytest.approx(0.1 * (found == number).sum(), rel=1e-5)
        patient.append(row["group"])
    each = np.mean(list(of.values()), axis=0)
    assert done.metrics["image"]["dice"]["value"] == pytest.approx(each.mean())
    by_patient = [np.mean([d for d, g in zip(each, patient, strict=True) if g == one]) for one in sorted(set(patient))]
    assert len(by_patient) == 3 and done.metrics["patient"]["dice"]["value"] == pytest.approx(np.mean(by_patient))
    for name, numbers in done.structures.items():
        assert numbers["dice"]["value"] == pytest.approx(np.mean(of[name]))
        assert numbers["area_mae"]["value"] == pytest.approx(np.abs(error[name]).mean())
        assert numbers["area_bias"]["value"] == pytest.approx(np.mean(error[name]))
        assert numbers["area_limit_low"]["value"] == pytest.approx(
            np.mean(error[name]) - 1.96 * np.std(error[name], ddof=1)
        )
    assert done.subgroups["scanner"]["A"]["value"] == pytest.approx(each[::2].mean())
    assert {"hd95_mm"} <= set(done.metrics["image"]) and done.counts == {"images": 6, "groups": 3}
    assert any("does not say what it was trained on" in note for note in done.notes)
    told = json.loads((out / "metrics.json").read_text())
    assert told["structures"].keys() == {"nerve", "artery"} and told["weights_sha256"]
    assert Image.open(out / "overlay.png").size == (4 * 192, 2 * 192) and (out / "legend.csv").is_file()
    page = (out / "report.html").read_text()
    assert "Structures" in page and "Bland-Altman: area of nerve, mm2" in page and "<img" not in page
    table = predict(segmenter, external.parent / "images", tmp_path / "predicted", progress=False)
    with table.frames.open() as stream:
        again = [float(row["area_pixels_nerve"]) for row in csv.DictReader(stream)]
    assert again == [float(row["area_pixels_nerve"]) for row in rows]


def test_other_values_and_a_structure_that_the_masks_lack(segmenter, external, tmp_path):
    whole = evaluate(segmenter, external, tmp_path / "whole", progress=False)
    for file in (external.parent / "masks").iterdir():
        labels = np.asarray(Image.open(file))
        Image.fromarray(np.array([0, 200, 100], np.uint8)[labels]).save(file)
    with pytest.raises(DataError, match="no mask holds 1"):
        evaluate(segmenter, external, tmp_path / "no", progress=False)
    turned = evaluate(segmenter, external, tmp_path / "turned", classes="artery=100,nerve=200", progress=False)
    assert turned.metrics == whole.metrics and turned.structures == whole.structures
    one = evaluate(segmenter, external, tmp_path / "one", classes="artery=100", progress=False)
    assert one.structures.keys() == {"artery"}
    assert one.metrics["image"]["dice"] == pytest.approx(whole.structures["artery"]["dice"])
    assert any("nerve not evaluated" in note for note in one.notes)
    with pytest.raises(DataError, match=r"the masks of .* are vein; the model draws nerve, artery"):
        evaluate(segmenter, external, tmp_path / "no", classes="vein=100,nerve=200", progress=False)


def test_the_command(segmenter, external, tmp_path, capsys):
    out = tmp_path / "out"
    cli.main(["evaluate", str(segmenter), str(external), "-o", str(out), "--by", "scanner", "--pictures"])
    told = capsys.readouterr().out
    for line in ("by image: dice ", "by patient: dice ", "nerve: dice ", "scanner A: dice ", "license of the weights"):
        assert line in told
    assert "<img" in (out / "report.html").read_text()
    shutil.rmtree(out)
    with pytest.raises(SystemExit):
        cli.main(["evaluate", str(segmenter), str(external), "-o", str(out), "--by", "ward"])
    assert "lacks the column(s) ward" in capsys.readouterr().err and not out.exists()
