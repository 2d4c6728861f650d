"""A task decodes what it should, keeps it, and refuses a split that leaks."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.benchmark.conftest import write_table
from training.benchmark.protocol import evaluate_backbone
from training.benchmark.tasks import lung_task
from training.data.errors import CorpusError
from training.data.locked_splits import locked_split
from usbackbones.data.splits import SplitError


def test_the_task_has_the_right_clips_frames_and_labels(task):
    assert task.classes == ("covid", "pneumonia", "regular")
    known, locked = task.pretrain, task.test
    assert known.counts() == {"groups": 12, "clips": 13, "frames": 12 * 7 + 30}
    assert locked.counts() == {"groups": 6, "clips": 6, "frames": 6 * 7}
    assert known.frames.dtype == np.uint8 and known.frames.shape[1:] == (224, 224)
    # 12 frames at 5 a second are 2.4 s, so 7 frames at 3 a second; 11 s are cut down to 30 frames.
    assert sorted(Counter(known.clip).values()) == [7] * 12 + [30]
    first = locked_split("pocus_lung")["pretrain"][0]
    assert set(known.label[known.group == first]) == {0, 2} and known.label.dtype.kind == "i"
    for name in set(known.clip):
        assert len(set(known.label[known.clip == name])) == 1
    assert not set(known.group) & set(locked.group)
    assert (known.unit == 1).all()


def test_the_frames_are_those_of_the_video(task):
    """Stripes that stand vary along the row, stripes that lie along the column."""
    frames = task.pretrain.frames.astype(float)
    along_row = frames.mean(1).std(1)
    along_column = frames.mean(2).std(1)
    by_eye = np.select([along_column > 2 * along_row, along_row > 2 * along_column], [0, 1], 2)
    np.testing.assert_array_equal(by_eye, task.pretrain.label)


def test_decoded_frames_are_kept_and_belong_to_their_parameters(mini, tmp_path):
    first = lung_task(mini, tmp_path)
    wanted = first.pretrain.frames
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    np.testing.assert_array_equal(lung_task(mini, tmp_path).pretrain.frames, wanted)
    assert file.stat().st_mtime_ns == written and len(list(tmp_path.iterdir())) == 1
    assert replace(first, at_most=3).pretrain.counts()["frames"] == 13 * 3
    assert replace(first, rows=first.rows[:6]).pretrain.counts()["clips"] == 6
    assert len(list(tmp_path.iterdir())) == 3
    assert not any(path.name.endswith(".part") for path in tmp_path.iterdir())


def test_a_group_on_neither_side_is_refused(tmp_path):
    (tmp_path / "pocus_lung").mkdir()
    write_table(tmp_path, [["a.mp4", "video", "covid", "0", "CC BY 4.0", "nobody"]])
    with pytest.raises(ValueError, match="'nobody' is on neither side of the locked split of pocus_lung"):
        lung_task(tmp_path, tmp_path)


def test_data_without_a_clip_of_the_classes_are_refused(tmp_path):
    (tmp_path / "pocus_lung").mkdir()
    write_table(tmp_path, [["a.mp4", "video", "viral_pneumonia", "0", "CC BY 4.0", "g"]])
    with pytest.raises(CorpusError, match="no clip has one of the labels covid, pneumonia, regular"):
        lung_task(tmp_path, tmp_path)


def test_a_class_without_a_clip_is_refused(task):
    with pytest.raises(ValueError, match="the test part of pocus_lung has no clip of covid"):
        replace(task, test_rows=tuple(row for row in task.test_rows if row.label != "covid"))


def test_a_planted_leak_is_refused(task):
    with pytest.raises(SplitError, match=task.rows[0].group):
        replace(task, test_rows=(*task.test_rows, task.rows[0]))
    with pytest.raises(SplitError, match="clip"):  # the same file under the name of another patient
        replace(task, test_rows=(*task.test_rows, replace(task.rows[0], group="somebody else")))


def test_the_inner_part_opens_no_test_clip(task, network, tmp_path):
    rows = tuple(replace(row, path=f"/nowhere{n}.avi") for n, row in enumerate(task.test_rows))
    gone, quick = replace(task, cache=tmp_path, test_rows=rows), {"folds": 2, "repeats": 1, "resamples": 5}
    evaluate_backbone(network, gone, "inner", **quick)
    with pytest.raises(OSError, match="nowhere"):
        evaluate_backbone(network, gone, "test", **quick)


def test_groups_held_out_of_pretraining_stand_in_for_the_locked_ones(task, network, tmp_path):
    unreadable = tuple(replace(row, path=f"/nowhere{n}.avi") for n, row in enumerate(task.test_rows))
    shut = replace(task, test_rows=unreadable, cache=tmp_path)
    held = {row.group for row in task.rows[:3]}
    inner = shut.holding_out(held)
    assert set(inner.test.group) == held
    assert set(inner.pretrain.group) == {row.group for row in task.rows} - held
    assert evaluate_backbone(network, inner, "test", resamples=5)["knn"]["frame"]
    with pytest.raises(ValueError, match="not in the pretraining part"):
        shut.holding_out({task.test_rows[0].group})


def test_the_real_clips_can_be_judged(shared_data, network, tmp_path):
    whole = lung_task(shared_data, tmp_path)
    assert (len(whole.rows), len(whole.test_rows)) == (84, 41)
    smallest = sorted(whole.rows, key=lambda row: Path(row.path).stat().st_size)
    chosen = [row for label in whole.classes for row in [r for r in smallest if r.label == label][:3]]
    few = replace(whole, rows=tuple(chosen), at_most=3)
    row = evaluate_backbone(network, few, folds=2, repeats=1, resamples=50)
    assert 0 <= row["linear"]["clip"]["balanced_accuracy"]["value"] <= 1
    assert few.pretrain.counts()["clips"] == 9
    assert few.pretrain.frames.std() > 20
