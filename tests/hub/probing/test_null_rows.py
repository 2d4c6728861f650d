"""A result is told where the files' container or geometry do as well, and is not where it is beyond them."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_module
from tests.hub.auditing.sets import still
from usbackbones.clips.read import read_clip
from usbackbones.data.item import Item
from usbackbones.data.splits import grouped_folds
from usbackbones.metrics.levels import bootstrap
from usbackbones.metrics.resampling import interval
from usbackbones.probing.null_rows import NullRows, division_of
from usbackbones.probing.probes import linear_predict


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """(items of 20 patients, the facts of their files): class b is taller."""
    folder = tmp_path_factory.mktemp("clips")
    items = []
    for number in range(40):
        label, file = "ab"[number // 2 % 2], folder / f"{number}.png"
        Image.fromarray(still(number)[: 96 if label == "a" else 80]).save(file)
        items.append(Item(file, label, f"p{number // 2:02}", "test" if number < 16 else "train"))
    nulls = NullRows(item.path for item in items)
    for number, item in enumerate(items):
        nulls.seen(number, read_clip(item.path))
    return items, nulls


def test_a_result_that_is_not_beyond_the_geometry_is_told_so(clips):
    items, nulls = clips
    y = np.array(["ab".index(item.label) for item in items])
    parts = grouped_folds([item.group for item in items], [item.label for item in items], 5, 0)
    frames = np.repeat(np.arange(40), 2)
    weak = np.stack([1 - 0.3 * y, 0.3 * y], 1)[frames]  # calls everything a
    line = nulls.line("resnet18", items, frames, weak, parts)
    assert line.startswith("geometry alone, without a pixel, has a balanced accuracy by clip of 1.000")
    assert "-0.500 [-0.500, -0.500]" in line
    # Equal to the null row: the interval is 0 to 0, which is no proven gain; container has nothing to say.
    strong = np.eye(2)[y][frames]
    assert "+0.000 [+0.000, +0.000]" in nulls.line("resnet18", items, frames, strong, parts)


def test_a_result_beyond_both_rows_is_not_told(clips):
    items, nulls = clips
    only = NullRows(item.path for item in items)
    only.facts = {"container": nulls.facts["container"]}  # all are PNG: chance
    y = np.array(["ab".index(item.label) for item in items])
    division = division_of(items)
    assert division[1].tolist() == list(range(16))
    assert only.line("resnet18", items, division[1], np.eye(2)[y][:16], [division]) == ""
    # The paired difference by hand, for a result that is right in three of four of the patients' files.
    groups = np.array([item.group for item in items])
    half = np.eye(2)[np.where(np.arange(40) % 4 == 1, 1 - y, y)]
    null = linear_predict(np.zeros((24, 1)), y[16:], groups[16:], np.zeros((16, 1)), classes=2)[0]
    drawn = [bootstrap(y[:16], [p], groups[:16])["balanced_accuracy"] for p in (half[:16], null)]
    low, _ = interval(drawn[0] - drawn[1])
    assert (only.line("resnet18", items, division[1], half[:16], [division]) != "") == (low <= 0)


def facts_of(files, labels):
    """Null rows of files, patients in pairs, and the items."""
    items = [Item(file, label, f"p{n // 2:02}") for n, (file, label) in enumerate(zip(files, labels, strict=True))]
    nulls = NullRows(files)
    for number, file in enumerate(files):
        nulls.seen(number, read_clip(file))
    return items, nulls


def write_jpeg(file, number, label):
    Image.fromarray(still(number)).save(file, quality=90 if label == "a" else 60)


def write_gif(file, number, label):
    frames = [Image.fromarray(still(number, seed=seed)) for seed in range(2)]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=50 if label == "a" else 80)


@pytest.mark.parametrize(("write", "suffix"), [(write_jpeg, "jpg"), (write_gif, "gif")])
def test_the_container_of_stills_and_of_clips_is_a_null_row(tmp_path, write, suffix):
    """Classes differ in the JPEG tables of their stills, or in the frame rate of their clips, and in nothing else."""
    labels = ["ab"[number // 2 % 2] for number in range(24)]
    files = [tmp_path / f"{number:02}.{suffix}" for number in range(24)]
    for number, (file, label) in enumerate(zip(files, labels, strict=True)):
        write(file, number, label)
    items, nulls = facts_of(files, labels)
    parts = grouped_folds([item.group for item in items], labels, 4, 0)
    y = np.array(["ab".index(label) for label in labels])
    chance = np.full((24, 2), 0.5)
    line = nulls.line("resnet18", items, np.arange(24), chance, parts)
    assert line.startswith(
        "container alone, without a pixel, has a balanced accuracy by clip of 1.000; resnet18 is -0.5"
    )
    del nulls.facts["container"]  # then the geometry, which is the same in both classes, is no better than chance
    assert nulls.line("resnet18", items, np.arange(24), np.eye(2)[y], parts) == ""


def test_probe_and_finetune_print_the_line_and_keep_it(tmp_path):
    """The size of the frame tells the class and the texture does not: the result is beside geometry's."""
    files, labels = [], []
    for number in range(24):
        label = "ab"[number // 2 % 2]
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        files.append(tmp_path / "set" / label / f"p{number // 2:02}_{number}.png")
        labels.append(label)
        Image.fromarray(still(number)[: 96 if label == "a" else 80]).save(files[-1])
    data, named = tmp_path / "set", ("--group-from", "^(p[0-9]+)")
    done = run_module("usbackbones", "probe", data, "--model", "random:test_resnet", "-o", tmp_path / "probe", *named)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "probe" / "metrics.json").read_text())["beside"]
    assert kept.startswith("geometry alone, without a pixel, has a balanced accuracy by clip of 1.000; random:test_res")
    assert kept in done.stderr
    options = ("--model", "random:test_resnet", "--epochs", 1, "-o", tmp_path / "tuned", *named)
    done = run_module("usbackbones", "finetune", data, *options)
    assert done.returncode == 0, done.stderr
    assert (
        "geometry alone, without a pixel, has a balanced accuracy by clip of 1.000; random:test_resnet" in done.stderr
    )
