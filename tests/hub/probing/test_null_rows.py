"""A result is told where the files' container or geometry do as well, and is not where it is beyond them."""

import numpy as np
import pytest
from PIL import Image

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
