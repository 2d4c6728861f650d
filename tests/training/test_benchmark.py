"""The lung table from videos to Markdown, and the wall between the locked part and every choice."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf
from torch import nn

from tests.conftest import REPOSITORY
from training.benchmark.lock import locked_split
from training.benchmark.lung import PLAIN_INPUT, main, random_networks, with_input
from training.benchmark.protocol import Protocol, evaluate_backbone, judge, predict
from training.benchmark.tasks import lung_task
from usbackbones.probe import embed, knn_predict, linear_predict
from usbackbones.scores import METRICS
from usbackbones.splits import SplitError

LABELS = ("covid", "bacterial_pneumonia", "regular")
SMALL = {"input_size": (3, 32, 32)}
QUICK = {"folds": 2, "repeats": 2, "resamples": 50}


def write_video(file, frames, rate):
    """A gif through Pillow, anything else through FFmpeg."""
    if file.suffix == ".gif":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(file, save_all=True, append_images=rest, duration=1000 // rate)
        return
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())


def stripes(label, rng, count):
    """Noisy frames [count, 48, 64] whose stripes tell the class: lying, standing or none."""
    rows, columns = np.mgrid[:48, :64]
    pattern = (np.sin(rows), np.sin(columns), np.zeros((48, 64)))[LABELS.index(label)]
    return [(128 + 60 * pattern + 25 * rng.normal(size=(48, 64))).clip(0, 255).astype(np.uint8) for _ in range(count)]


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    """The lung collection in miniature: 4 pretraining and 2 test groups a class, and rows that must be left out."""
    root = tmp_path_factory.mktemp("data")
    videos = root / "pocus_lung" / "pocus_videos"
    videos.mkdir(parents=True)
    split, rng, records = locked_split("pocus_lung"), np.random.default_rng(0), []

    def add(group, label, suffix, count, rate, kind="video", uncertain="0"):
        file = videos / f"{len(records)}_{label}{suffix}"
        if kind == "video":
            write_video(file, stripes(label, rng, count), rate)
        records.append([f"pocus_videos/{file.name}", kind, label, uncertain, "CC BY 4.0", group])

    for number in range(12):
        add(split["pretrain"][number], LABELS[number % 3], (".mp4", ".gif")[number % 2], 12, 5)
    for number in range(6):
        add(split["test"][number], LABELS[number % 3], ".avi", 12, 5)
    add(split["pretrain"][0], "regular", ".mp4", 55, 5)  # a group of two labels, a clip of 11 s
    records.append(["pocus_videos/absent.mp4", "video", "viral_pneumonia", "0", "CC BY 4.0", "g1"])
    records.append(["pocus_videos/absent.mp4", "video", "covid", "1", "CC BY 4.0", "g2"])
    records.append(["pocus_videos/absent.png", "image", "covid", "0", "CC BY 4.0", "g3"])
    write_table(root, records)
    return root


def write_table(root, records):
    with (root / "pocus_lung" / "groups.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "kind", "label", "label_uncertain", "licence", "group"])
        writer.writerows(records)


@pytest.fixture(scope="session")
def task(mini, tmp_path_factory):
    return lung_task(mini, tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="session")
def network():
    return random_networks("resnet18", 1, **SMALL)[0]


# The task


def test_the_task_has_the_right_clips_frames_and_labels(task):
    assert task.classes == ("covid", "pneumonia", "regular")
    known, locked = task.pretrain, task.test
    assert known.counts() == {"groups": 12, "clips": 13, "frames": 12 * 7 + 30}
    assert locked.counts() == {"groups": 6, "clips": 6, "frames": 6 * 7}
    assert known.frames.dtype == np.uint8 and known.frames.shape[1:] == (224, 224)
    # 12 frames at 5 a second are 2.4 s, so 7 frames at 3 a second; 11 s are cut down to 30 frames.
    assert sorted(Counter(known.clip).values()) == [7] * 12 + [30]
    first = locked_split("pocus_lung")["pretrain"][0]
    assert set(known.label[known.group == first]) == {0, 2}
    for name in set(known.clip):
        assert len(set(known.label[known.clip == name])) == 1
    assert not set(known.group) & set(locked.group)


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


def test_a_group_on_neither_side_is_refused(mini, tmp_path):
    folder = tmp_path / "pocus_lung"
    folder.mkdir()
    write_table(tmp_path, [["a.mp4", "video", "covid", "0", "CC BY 4.0", "nobody"]])
    with pytest.raises(ValueError, match=r"a\.mp4: its group 'nobody' is on neither side"):
        lung_task(tmp_path, tmp_path)


def test_a_class_without_a_clip_is_refused(task):
    with pytest.raises(ValueError, match="the test part of pocus_lung has no clip of covid"):
        replace(task, test_rows=tuple(row for row in task.test_rows if row.label != "covid"))


# The wall


def test_a_leaking_split_is_refused(task):
    with pytest.raises(SplitError, match=task.rows[0].group):
        replace(task, test_rows=(*task.test_rows, task.rows[0]))


def test_the_inner_part_opens_no_test_clip(task, network, tmp_path):
    gone = replace(task, cache=tmp_path, test_rows=tuple(replace(row, path="/nowhere.avi") for row in task.test_rows))
    evaluate_backbone(network, gone, "inner", **QUICK)
    with pytest.raises(OSError, match="nowhere"):
        evaluate_backbone(network, gone, "test", **QUICK)


def test_groups_held_out_of_pretraining_stand_in_for_the_locked_ones(task, network, tmp_path):
    unreadable = tuple(replace(row, path="/nowhere.avi") for row in task.test_rows)
    shut = replace(task, test_rows=unreadable, cache=tmp_path)
    held = {row.group for row in task.rows[:3]}
    inner = shut.holding_out(held)
    assert set(inner.test.group) == held
    assert set(inner.pretrain.group) == set(task.pretrain.group) - held
    row = evaluate_backbone(network, inner, "test", resamples=50)
    assert len(row["knn"]["clip"]["auroc"]["members"]) == 1
    with pytest.raises(ValueError, match=task.test_rows[0].group):
        task.holding_out({task.test_rows[0].group})


def test_permuted_test_labels_change_no_prediction(task, network):
    protocol = Protocol(part="test", resamples=50)
    labels = [row.label for row in task.test_rows]
    rotated = tuple(
        replace(row, label=label) for row, label in zip(task.test_rows, labels[1:] + labels[:1], strict=True)
    )
    lied_to = replace(task, test_rows=rotated)
    told, misled = predict([network], task, protocol), predict([network], lied_to, protocol)
    assert (task.test.label != lied_to.test.label).all()
    assert told.penalties == misled.penalties
    for probe in ("knn", "linear"):
        np.testing.assert_array_equal(told.probability[probe], misled.probability[probe])
    true, false = (judge(told, part, protocol)["linear"]["clip"] for part in (task, lied_to))
    assert true["balanced_accuracy"]["value"] > 0.9 > 0.4 > false["balanced_accuracy"]["value"]


def test_the_locked_part_is_predicted_from_the_pretraining_part(task, network):
    known, protocol = task.pretrain, Protocol(part="test", resamples=50)
    x, new = embed(network, known.frames), embed(network, task.test.frames)
    found = predict([network], task, protocol)
    linear, penalty = linear_predict(x, known.label, known.group, new, known.clip)
    np.testing.assert_allclose(found.probability["linear"][0], linear, atol=1e-9)
    np.testing.assert_allclose(found.probability["knn"][0], knn_predict(x, known.label, new), atol=1e-9)
    assert found.penalties == [penalty]
    unweighted = linear_predict(x, known.label, known.group, new)[0]
    assert np.abs(unweighted - linear).max() > 1e-3  # one clip is longer than the others


def test_test_frames_reach_no_choice_and_not_each_other(task, network):
    """With one of its clips exchanged, the others get the same predictions by a probe of the same penalty."""
    protocol = Protocol(part="test", resamples=50)
    extra = replace(task.test_rows[0], group="another", clip="another", path=task.test_rows[1].path)
    more = replace(task, test_rows=(*task.test_rows[1:], extra))
    whole, changed = predict([network], task, protocol), predict([network], more, protocol)
    assert whole.penalties == changed.penalties
    kept = task.test.clip != task.test_rows[0].clip
    for probe in ("knn", "linear"):
        np.testing.assert_allclose(
            whole.probability[probe][0][kept], changed.probability[probe][0][: kept.sum()], atol=1e-4
        )


def test_shuffled_labels_are_not_learned(task, network):
    """Stripes give the class away; labels drawn for the clips do not come with them."""
    rng = np.random.default_rng(0)
    rows = [row for row in task.rows if row.group != task.rows[0].group]
    values = []
    for _ in range(4):
        labels = rng.permutation([row.label for row in rows])
        shuffled = replace(task, rows=tuple(replace(r, label=str(v)) for r, v in zip(rows, labels, strict=True)))
        values.append(evaluate_backbone(network, shuffled, **QUICK)["linear"]["clip"]["balanced_accuracy"]["value"])
    assert np.mean(values) < 0.55
    honest = evaluate_backbone(network, task, **QUICK)["linear"]["clip"]["balanced_accuracy"]["value"]
    assert honest > 0.8


# The rows


def test_random_networks_are_seeded_alive_and_leave_the_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two = random_networks("resnet18", 2, **SMALL)
    assert torch.equal(torch.rand(1), expected)
    (again,) = random_networks("resnet18", 1, **SMALL)
    assert torch.equal(one.conv1.weight, again.conv1.weight)
    assert not torch.equal(one.conv1.weight, two.conv1.weight)
    assert all(module.weight.all() for module in one.modules() if isinstance(module, nn.BatchNorm2d))
    assert one.pretrained_cfg["input_size"] == (3, 32, 32) and one.pretrained_cfg["mean"] == PLAIN_INPUT["mean"]


def test_a_vit_is_brought_to_the_asked_size():
    model = with_input(timm.create_model("vit_tiny_patch16_224", num_classes=0), **SMALL)
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 5, 192)


def test_a_row_is_the_mean_of_its_members_and_paired_with_the_reference(task, network):
    protocol = Protocol(**QUICK)
    others = random_networks("resnet18", 3, **SMALL)[1:]
    reference = predict(others, task, protocol)
    assert len(reference.probability["knn"]) == 2 * protocol.repeats
    assert len(reference.penalties) == 2 * protocol.repeats * protocol.folds
    row = evaluate_backbone(network, task, reference=reference, **QUICK)
    null = judge(reference, task, protocol)
    for probe in ("knn", "linear"):
        for level in ("frame", "clip"):
            for metric in METRICS:
                mine, other = row[probe][level][metric], null[probe][level][metric]
                assert mine["value"] == pytest.approx(np.mean(mine["members"]))
                assert mine["low"] <= mine["high"] and "difference" not in other
                assert mine["difference"]["value"] == pytest.approx(mine["value"] - other["value"])
    same = judge(reference, task, protocol, reference)["linear"]["clip"]["auroc"]["difference"]
    assert same == {"value": 0, "low": 0, "high": 0}
    assert row == evaluate_backbone([network], task, reference=reference, **QUICK)


# The command


def test_the_command_prints_the_table_and_writes_the_numbers(mini, tmp_path, network):
    save_for_hf(network, tmp_path / "weight", model_config={"pretrained_cfg": {}}, safe_serialization="both")
    (tmp_path / "weight" / "pytorch_model.bin").unlink()
    here, json_file = f"local-dir:{tmp_path / 'weight'}", tmp_path / "out" / "lung.json"
    models = (here, "random:resnet18", "resnet18.a1_in1k")
    options = ("--data", mini, "--cache", tmp_path / "cache", "--seeds", 2, "--size", 32, "--json", json_file)
    run = subprocess.run(
        [sys.executable, "-m", "training.benchmark.lung", *map(str, (*models, *options))],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(json_file.read_text())
    assert report["command"].startswith("python -m training.benchmark.lung local-dir:") and report["classes"]
    assert report["counts"]["test"] == {"groups": 6, "clips": 6, "frames": 42}
    assert report["protocol"]["part"] == "test" and report["reference"] == "random:resnet18"
    first, null, imagenet = report["rows"]
    assert first["networks"] == 1 and null["networks"] == 2
    assert first["input"]["input_size"] == null["input"]["input_size"] == [3, 32, 32]
    assert first["input"]["mean"] == null["input"]["mean"]
    assert len(first["penalties"]) == 1 and len(null["penalties"]) == 2
    assert "results" not in imagenet and imagenet["command"].endswith("--part test")

    lines = run.stdout.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 2 * 2 + 1 and {line.count("|") for line in table} == {9}
    value = first["results"]["knn"]["frame"]["balanced_accuracy"]
    assert f"| {here} | knn | {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in run.stdout
    assert "not run (" in table[-1] and "`python -m training.benchmark.lung resnet18.a1_in1k" in table[-1]
    assert "judged on the locked 6 clips of 6 groups (42 frames)" in run.stdout
    assert lines[-1] == f"`{report['command']}`"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("local-dir:/nowhere", "error: .*/nowhere"),
        ("resnet18.nosuch", "error: .*nosuch"),
        ("usbackbones/resnet18.nosuch", "error: .*nosuch"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(mini, tmp_path, model, message):
    with pytest.raises(SystemExit, match=message):
        main((model,), mini, part="inner", cache=tmp_path)


def test_data_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*groups\.csv is missing"):
        main(("random:resnet18",), tmp_path, part="inner", cache=tmp_path)


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
