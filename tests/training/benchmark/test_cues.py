"""Cues beside networks: what of files and frames they know, by which protocol, and that no locked clip is opened."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.training.benchmark.conftest import QUICK
from training.benchmark.cues import CUES, cue_features, file_facts, is_cue
from training.benchmark.evaluate import Columns, task_report
from training.benchmark.models import Entry, entries
from training.benchmark.protocol import Protocol
from training.benchmark.tasks import lung_task


def rows_of(task, part, cache=None, cues=CUES, shots=()):
    rows = [Entry(f"cue:{cue}") for cue in cues]
    report = task_report(task, rows, Protocol(part=part, shots=shots, draws=2, **QUICK), Columns(legacy=1), "", cache)
    return {row["model"]: row for row in report["rows"]}


def test_the_border_is_the_outer_ring_of_each_frame_by_the_slow_form(task):
    known, judged = cue_features("cue:border", task, True)
    assert known.shape == (len(task.pretrain.frames), 64 * 64 - 54 * 54) and len(judged) == len(task.test.frames)
    assert np.allclose(known.mean(0), 0) and np.allclose(known.std(0), 1)
    changed = task.pretrain.frames.copy()
    side = changed.shape[1]
    margin = -(-side * 5 // 64)  # pixels of the frame that reach into the ring
    changed[:, margin:-margin, margin:-margin] = 7
    inside = replace(task)
    inside.__dict__["pretrain"] = replace(task.pretrain, frames=changed)
    assert np.array_equal(cue_features("cue:border", inside, False)[0], known)  # nothing further in plays a part


def test_the_container_knows_the_files_and_no_pixel(mini, tmp_path):
    """Pixels of every clip are others, the files are not: the features stay the same."""
    data = tmp_path / "data"
    shutil.copytree(mini, data)
    task = lung_task(data, tmp_path / "cache")
    facts = {row.clip: one["container"] for row, one in zip(task.rows, file_facts(task.rows, "", None), strict=True)}
    assert {of["format"] for of in facts.values()} == {"mov", "GIF"}
    known, judged = cue_features("cue:container", task, True)
    for name in ("pretrain", "test"):
        part = getattr(task, name)
        task.__dict__[name] = replace(part, frames=255 - part.frames)
    for before, after in zip((known, judged), cue_features("cue:container", task, True), strict=True):
        assert np.array_equal(before, after)
    alike = {(row.tobytes(), repr(facts[clip])) for row, clip in zip(known, task.pretrain.clip, strict=True)}
    assert len(alike) == len({repr(of) for of in facts.values()})  # one vector of features for one set of facts


def test_a_cue_is_evaluated_by_the_protocol_of_the_networks(task, tmp_path):
    rows = rows_of(task, "test", tmp_path, shots=("1",))
    assert list(rows) == [f"cue:{cue}" for cue in CUES]
    for row in rows.values():
        value = row["results"]["linear"]["clip"]["balanced_accuracy"]
        assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1 and "difference" not in value
        assert set(row["results"]) == {"knn", "linear"} and len(row["few_shot"]["linear"]["1"]["members"]) == 2
        assert "input" not in row and "legacy" not in row
    assert [file.name.split("-")[1] for file in tmp_path.glob("*.json")] == ["cues", "cues"]
    again = rows_of(task, "test", tmp_path, ("container",))
    assert again["cue:container"]["results"] == rows["cue:container"]["results"]


def test_a_choice_opens_no_locked_clip(mini, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(mini, data)
    for file in data.rglob("*.avi"):  # all of the locked part
        file.write_bytes(b"")
    task = lung_task(data, tmp_path / "cache")
    assert rows_of(task, "inner", cues=("container", "border"))["cue:container"]["results"]["knn"]


def test_a_cue_that_there_is_not_is_named():
    assert is_cue("cue:border") and not is_cue("random:resnet18")
    with pytest.raises(ValueError, match="cue:bonder: no such cue; there are cue:container, cue:geometry, cue:border"):
        entries(["cue:bonder"], None, 1)
