"""A regressor on an external set, beside its own table of predictions in float64."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.data.item import DataError
from usbackbones.predicting.evaluate import evaluate
from usbackbones.predicting.run import predict
from usbackbones.predicting.trained import PredictError


@pytest.fixture
def measured(tmp_path):
    """A table of 12 stills of 6 patients, two wards, with a number each."""
    lines = ["path,label,patient,ward"]
    for number in range(12):
        Image.fromarray(phantom_clip(number, frames=1, size=64)[0]).save(tmp_path / f"m{number}.png")
        lines.append(f"m{number}.png,{number**1.5:.3f},P{number // 2},{'AB'[number % 2]}")
    (tmp_path / "measured.csv").write_text("\n".join(lines))
    return tmp_path / "measured.csv"


def test_the_metrics_are_those_of_its_predictions(regressor, measured, tmp_path):
    done = evaluate(regressor, measured, tmp_path / "out", by=("ward",), progress=False)
    with (tmp_path / "out" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    truth, found = (np.array([float(row[key]) for row in rows]) for key in ("label", "value_ef_%"))
    error = found - truth
    clip = done.metrics["clip"]
    assert clip["mae"]["value"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
    assert clip["r2"]["value"] == pytest.approx(1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum(), rel=1e-4)
    assert clip["bias"]["value"] == pytest.approx(error.mean(), rel=1e-4)
    assert clip["limit_high"]["value"] == pytest.approx(error.mean() + 1.96 * error.std(ddof=1), rel=1e-4)
    assert clip["mae"]["low"] < clip["mae"]["value"] < clip["mae"]["high"] and "patient" in done.metrics
    wards = done.subgroups["ward"]
    assert wards["A"]["value"] == pytest.approx(np.abs(error[::2]).mean(), rel=1e-4) and wards["B"]["clips"] == 6
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert told["task"] == "number" and "non-commercial use only" in told["weights_license"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Bland-Altman" in page and "By ward" in page and "m1.png" not in page
    table = predict(regressor, measured, tmp_path / "x.csv", progress=False)
    with table.clips.open() as stream:
        assert [float(row["value_ef_%"]) for row in csv.DictReader(stream)] == pytest.approx(found, rel=2e-2, abs=1e-3)


def test_the_command(regressor, measured, tmp_path, capsys):
    cli.main(["evaluate", str(regressor), str(measured), "-o", str(tmp_path / "out"), "--by", "ward"])
    told = capsys.readouterr().out
    assert "by patient: mae " in told and "ward A: mae " in told and "CC-BY-NC-4.0" in told


def test_refusals(regressor, measured, tmp_path):
    (tmp_path / "words.csv").write_text("path,label\nm0.png,high\nm1.png,3\nm2.png,nan\n")
    with pytest.raises(DataError, match=r"2 labels are no finite number .m0.png: 'high', m2.png: 'nan'."):
        evaluate(regressor, tmp_path / "words.csv", tmp_path / "out", progress=False)
    for asked in ({"positive": "x"}, {"names": {"3": "x"}}, {"foreground": "1"}):
        with pytest.raises(PredictError):
            evaluate(regressor, measured, tmp_path / "out", progress=False, **asked)
    assert not (tmp_path / "out").exists()
