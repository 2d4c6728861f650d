"""Predictions as tables: the numbers of the model itself, one row a frame, through interruptions and broken files."""

import csv
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from tests.conftest import REPOSITORY, python
from usbackbones.cli import main as cli
from usbackbones.clips import read_clip
from usbackbones.data.item import DataError
from usbackbones.features.transforms import transforms
from usbackbones.metrics.calibration import scaled
from usbackbones.predicting import run as predicting_run
from usbackbones.predicting.rows import Frame
from usbackbones.predicting.run import predict
from usbackbones.predicting.tables import Tables
from usbackbones.predicting.trained import PredictError, load_trained


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_row_a_frame_with_the_numbers_of_the_model(classifier, clips, tmp_path):
    done = predict(classifier, clips, tmp_path / "x.csv", group_from="^(p[0-9])_", batch=3, progress=False)
    rows, means = rows_of(done.frames), rows_of(done.clips)
    assert done.predicted == 4 and done.errors == 1
    names = [row["file"].rsplit("/", 1)[1] for row in rows]
    assert sorted(names) == ["p0_a.png", "p1_a.png", "p2_a.png", *["p5_cine.tif"] * 5, "p6_broken.mp4"]
    model = timm.create_model(f"local-dir:{classifier}", pretrained=True).eval()
    temperature = load_trained(classifier).calibration().temperature
    assert temperature > 1.5  # the validation rows are far too sure
    for row in rows:
        if row["error"]:
            assert row["prob_heart"] == row["prediction"] == "" and "p6_broken.mp4" in row["error"]
            continue
        frame = read_clip(row["file"]).frames[int(row["frame"])]
        with torch.inference_mode():
            p = model(transforms(model)(frame)[None]).double().softmax(1).numpy()
        expected = scaled(p, temperature)[0]
        found = [float(row["prob_abdomen"]), float(row["prob_heart"])]
        assert found == pytest.approx(expected, abs=2e-2)  # bf16 where the processor has it
        assert row["prediction"] == ("abdomen", "heart")[int(np.argmax(found))]
        assert row["group"] == row["file"].rsplit("/", 1)[1][:2]
    cine = next(row for row in means if "cine" in row["file"])
    own = [float(row["prob_heart"]) for row in rows if "cine" in row["file"]]
    assert cine["frames"] == "5" and float(cine["prob_heart"]) == pytest.approx(np.mean(own), abs=1e-6)


def test_what_was_trained_on_is_marked(classifier, clips, tmp_path):
    done = predict(classifier, clips, tmp_path / "x.csv", progress=False)
    seen = {row["file"].rsplit("/", 1)[1]: row["seen"] for row in rows_of(done.clips)}
    assert seen["p0_a.png"] == "yes" and seen["p1_a.png"] == seen["p2_a.png"] == "no"


def test_every_output_names_what_made_it(classifier, clips, tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    done = predict(classifier, clips, tmp_path / "x.parquet", progress=False, command="usbackbones predict ...")
    about = json.loads(done.about.read_text())
    assert about["weights_sha256"] == load_trained(classifier).sha256 and about["command"] == "usbackbones predict ..."
    assert (
        about["weights_license"].endswith("non-commercial use only") and "40 validation groups" in about["calibration"]
    )
    table = parquet.read_table(done.frames)
    assert table.schema.metadata[b"weights_sha256"].decode() == about["weights_sha256"]
    assert table["prob_heart"].type == "double" and table.num_rows == 9


def test_a_killed_run_goes_on_to_the_same_bytes(classifier, clips, tmp_path):
    """A real process that kills itself (SIGKILL) between the rows of two clips; the rest is computed by another."""
    whole = predict(classifier, clips, tmp_path / "whole.csv", batch=2, progress=False)
    code = f"""
import os, signal
from usbackbones.predicting.run import predict
from usbackbones.predicting.tables import Tables
write, calls = Tables._write, []
def killed(self, name, rows):
    calls.append(name)
    if len(calls) == 9:  # two headers, two clips that count, the frames of one that does not
        self._streams["frames"].write(b"half a ro")
        self._streams["frames"].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, rows)
Tables._write = killed
predict({str(classifier)!r}, {str(clips)!r}, {str(tmp_path / "x.csv")!r}, batch=2, progress=False)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    left = (tmp_path / ".x.csv.part" / "frames.csv").read_bytes()
    assert left.endswith(b"half a ro") and not (tmp_path / "x.csv").exists()
    for other, told in (({"stride": 2, "batch": 2}, "stride"), ({"batch": 3}, "batch")):
        wanted = rf"unfinished run of other clips or settings \({told} differ\): .* --overwrite to start over"
        with pytest.raises(PredictError, match=wanted):
            predict(classifier, clips, tmp_path / "x.csv", progress=False, **other)
    done = predict(classifier, clips, tmp_path / "x.csv", batch=2, progress=False)
    for first, second in ((whole.frames, done.frames), (whole.clips, done.clips)):
        assert first.read_bytes() == second.read_bytes()
    assert not list(tmp_path.glob(".x.csv*"))


def test_a_run_goes_on_with_the_batches_of_a_whole_one(classifier, clips, tmp_path, monkeypatch):
    """Whatever the rows are, interrupted after any sync point and while the tables are moved to their names."""
    batches, add_rows, add = [], predicting_run.Predictor.add_rows, Tables.add

    def counted(self, batch, images):
        batches.append([(frame.clip.source.path.name, frame.number) for frame in batch])
        add_rows(self, batch, images)

    def interrupted(self, rows):
        add(self, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(predicting_run.Predictor, "add_rows", counted)
    whole = predict(classifier, clips, tmp_path / "whole.csv", batch=2, progress=False)
    wanted = batches.copy()
    batches.clear()
    monkeypatch.setattr(Tables, "add", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            predict(classifier, clips, tmp_path / "x.csv", batch=2, progress=False)
    assert batches == wanted

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("usbackbones.predicting.tables.json.dump", killed)  # of about.json, after both tables
    with pytest.raises(KeyboardInterrupt):
        predict(classifier, clips, tmp_path / "x.csv", batch=2, progress=False)
    monkeypatch.undo()
    done = predict(classifier, clips, tmp_path / "x.csv", batch=2, progress=False)
    assert whole.frames.read_bytes() == done.frames.read_bytes() and whole.clips.read_bytes() == done.clips.read_bytes()


def test_lists_and_archives_and_what_is_refused(classifier, clips, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("path,PatientID\nclips/p1_a.png,A\nclips/p2_a.png,A\nclips/absent.png,B\n")
    done = predict(classifier, table, tmp_path / "out", progress=False)
    assert [row["group"] for row in rows_of(done.clips)] == ["A", "A", "B"]
    assert "absent.png" in rows_of(done.frames)[2]["error"]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    again = predict(classifier, table, tmp_path / "out", progress=False)
    assert again == replace(done, was_finished=True, warnings=()) and not done.was_finished
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    with pytest.raises(PredictError, match="is there already"):
        predict(classifier, table, tmp_path / "out", stride=2, progress=False)
    os.utime(clips / "p1_a.png", ns=(1, 1))  # a file that may have changed is predicted again, not passed over
    with pytest.raises(PredictError, match="is there already"):
        predict(classifier, table, tmp_path / "out", progress=False)
    assert predict(classifier, table, tmp_path / "out", overwrite=True, progress=False).predicted == 2
    with pytest.raises(PredictError, match="no trained model there"):
        predict(tmp_path, table, tmp_path / "y.csv", progress=False)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")
    with pytest.raises(PredictError, match="begun: its training has not finished; give the command"):
        predict(tmp_path / "begun", table, tmp_path / "y.csv", progress=False)
    with pytest.raises(PredictError, match="is a file; give a folder"):
        predict(classifier, table, clips / "p1_a.png", progress=False)


def test_every_clip_once_in_a_stable_order(classifier, clips, tmp_path, monkeypatch):
    """Paths given twice, through links and detours, files of one name, and the outputs of earlier runs."""
    (clips / "more").mkdir()
    shutil.copy(clips / "p0_a.png", clips / "more" / "p0_a.png")
    (clips / "link").symlink_to(clips / "more")
    names = []
    for number in range(2):
        given = [clips, clips / "p0_a.png", clips / ".." / "clips" / "p1_a.png", clips / "link"]
        done = predict(classifier, given, clips / f"out{number}", progress=False)
        names.append([row["file"] for row in rows_of(done.clips)])
    assert names[0] == names[1] and len(names[0]) == len(set(names[0])) == 6
    (clips / "out0" / "masks").mkdir()
    shutil.copy(clips / "p2_a.png", clips / "out0" / "masks" / "m.png")
    notes = []
    third = predict(classifier, clips, tmp_path / "third", progress=False, note=notes.append)
    assert [row["file"] for row in rows_of(third.clips)] == names[0]
    assert (
        notes[0].startswith("passed over 1 file in ")
        and "masks of their neighbors" in notes[0]
        and notes[0].endswith("p1_a_mask.png")
    )
    assert any("passed over 1 file that an earlier run wrote" in line for line in notes)
    assert json.loads(third.about.read_text())["notes"] == notes
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{clips / 'p1_a.png'}\n\n{clips / 'absent.png'}\n"))
    listed = predict(classifier, "-", tmp_path / "stdin.csv", progress=False)
    assert (listed.predicted, listed.errors) == (1, 1)


def test_what_is_no_clip_is_refused_by_name(classifier, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for path, fault in (
        ("absent", "no such file or folder"), ("empty", "a folder without clips"), ("empty.txt", "nothing to predict"),
        ("-", "nothing to predict: -"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=fault):
            predict(classifier, path if path == "-" else tmp_path / path, tmp_path / "x.csv", progress=False)
    np.save(tmp_path / "empty" / "frames.npy", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"but 1 NumPy file, which may be labels: give by name frames\.npy"):
        predict(classifier, tmp_path / "empty", tmp_path / "x.csv", progress=False)
    (tmp_path / "gaps.csv").write_text("path,age\n,7\nempty/frames.npy,8\n\n,9\n")
    notes = []
    done = predict(classifier, tmp_path / "gaps.csv", tmp_path / "gaps", progress=False, note=notes.append)
    assert done.predicted == 1 and any("2 rows without a path, line 2, 5" in line for line in notes)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predict", str(classifier), str(tmp_path / "broken.png"), "-o", str(tmp_path / "y.csv")])
    assert "none of 1 clip could be read" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "y.csv")) == 1


def test_any_name_that_carries_a_classifier(clips, tmp_path, monkeypatch):
    for name in ("usbackbones/resnet18.uscl_open3", "random:resnet18", "resnet18.uscl_open3"):
        with pytest.raises(PredictError, match="is a backbone without a head: usbackbones finetune DATA --model"):
            load_trained(name)
    with pytest.raises(PredictError, match="no model of timm or of ours has this name"):
        load_trained("resnet19")


def test_memory_follows_the_batch(classifier, clips, tmp_path, monkeypatch):
    """No more frames wait than a batch, whatever the length of a clip, and no more clips, however many there are."""
    most, original = [], predicting_run.Predictor.add_rows

    def counted(self, batch, images):
        most.append(len(batch))
        original(self, batch, images)

    monkeypatch.setattr(predicting_run.Predictor, "add_rows", counted)
    predict(classifier, clips / "p5_cine.tif", tmp_path / "x.csv", batch=2, progress=False)
    assert most == [2, 2, 1]
    written, add = [], Tables.add

    def weighed(self, rows):
        written.append((len(rows), sum(type(one) is Frame for one in gc.get_objects())))
        add(self, rows)

    monkeypatch.setattr(Tables, "add", weighed)
    for number in range(7):
        shutil.copy(clips / "p0_a.png", clips / f"q{number}.png")
    predict(
        classifier,
        sorted(clips.glob("[pq]*_a.png")) + sorted(clips.glob("q*")),
        tmp_path / "y.csv",
        batch=2,
        progress=False,
    )
    assert [clips for clips, _ in written] == [2, 2, 2, 2, 2]
    assert max(frames for _, frames in written) <= 2


def test_the_command(classifier, clips, tmp_path, capsys):
    cli.main(["predict", str(classifier), str(clips), "-o", str(tmp_path / "x.csv")])
    out = capsys.readouterr().out
    assert "4 clips predicted, 1 could not be read" in out and "calibrated by temperature" in out
    cli.main(["predict", str(classifier), str(clips), "-o", str(tmp_path / "y.csv"), "--json"])
    assert json.loads(capsys.readouterr().out)["errors"] == 1
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predict", str(tmp_path / "absent"), str(clips), "-o", str(tmp_path / "z.csv")])
    assert "no trained model there" in capsys.readouterr().err


def test_a_classifier_needs_no_extra(classifier, clips, tmp_path):
    """As after `pip install usbackbones`: what only extras bring is not there."""
    code = f"""
import sys
from pathlib import Path
for name in ("segmentation_models_pytorch", "scipy", "sklearn", "torchmetrics", "cv2", "pyarrow", "matplotlib"):
    sys.modules[name] = None
from usbackbones.cli.main import main
main(["predict", {str(classifier)!r}, {str(clips)!r}, "-o", {str(tmp_path / "x.csv")!r}])
(folder := Path({str(tmp_path / "data")!r})).mkdir()
for number, label in enumerate(("abdomen", "heart")):
    (folder / label).mkdir()
    (folder / label / "a.png").write_bytes(Path({str(clips)!r}, f"p{{number}}_a.png").read_bytes())
main(["evaluate", {str(classifier)!r}, str(folder), "-o", {str(tmp_path / "out")!r}])
"""
    assert "4 clips predicted" in python(code)
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.gpu
def test_predictions_on_a_gpu_are_those_of_the_cpu(classifier, clips, tmp_path, gpu, monkeypatch):
    """Neither in bfloat16; cuDNN's convolutions compute in TF32, of ten bits."""
    monkeypatch.setattr("usbackbones.predicting.rows.computes_in_bf16", lambda _: False)
    found = []
    for there in (True, False):
        if not there:
            monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        done = predict(classifier, clips, tmp_path / str(there), progress=False)
        found.append([float(row["prob_heart"] or "nan") for row in rows_of(done.frames)])
    np.testing.assert_allclose(*found, atol=1e-2)
