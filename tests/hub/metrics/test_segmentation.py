"""Scores of masks against their slow obvious forms, in float64."""

import numpy as np
import pytest
import torch

from usbackbones.metrics.segmentation import coco_ap, dice, ellipse_circumference, hd95, iou, mean_interval, ramanujan


def blob(rng, shape=(24, 31)):
    rows, columns = np.indices(shape)
    y, x = rng.uniform(6, 18), rng.uniform(8, 22)
    return ((rows - y) / rng.uniform(2, 6)) ** 2 + ((columns - x) / rng.uniform(2, 7)) ** 2 < 1


@pytest.mark.parametrize("seed", range(5))
def test_overlap_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    first, second = blob(rng), blob(rng)
    a, b = ({tuple(pixel) for pixel in np.argwhere(mask)} for mask in (first, second))
    assert dice(first, second) == pytest.approx(2 * len(a & b) / (len(a) + len(b)), rel=1e-12)
    assert iou(first, second) == pytest.approx(len(a & b) / len(a | b), rel=1e-12)


def outline(mask):
    """Pixels with a neighbour outside."""
    height, width = mask.shape
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if any(not (0 <= y + i < height and 0 <= x + j < width) or not mask[y + i, x + j] for i, j in steps)
    ]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 0.7)])
@pytest.mark.parametrize("seed", range(3))
def test_hd95_over_all_pairs(seed, spacing):
    rng = np.random.default_rng(seed)
    first, second = blob(rng), blob(rng)
    a, b = (np.array(outline(mask)) * spacing for mask in (first, second))
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    slow = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
    assert hd95(first, second, spacing) == pytest.approx(slow, rel=1e-12)


def test_empty_masks():
    nothing, something = np.zeros((3, 4), bool), np.eye(3, 4, dtype=bool)
    assert (dice(nothing, nothing), iou(nothing, nothing), hd95(nothing, nothing)) == (1, 1, 0)
    for pair in ((nothing, something), (something, nothing)):
        assert (dice(*pair), iou(*pair), hd95(*pair)) == (0, 0, 5)
    assert hd95(nothing, something, (2.0, 2.0)) == 10
    assert ellipse_circumference(nothing) == 0


@pytest.mark.parametrize("axes", [(1.0, 1.0), (2.0, 3.0), (10.0, 30.0)])
def test_perimeter_by_integration(axes):
    angle = np.linspace(0, 2 * np.pi, 20_001)
    speed = np.hypot(axes[0] * np.sin(angle), axes[1] * np.cos(angle))
    assert ramanujan(*axes) == pytest.approx(np.trapezoid(speed, angle), rel=1e-6)


@pytest.mark.parametrize("tilt", [0.0, 0.4, 1.3])
def test_circumference_of_a_drawn_ellipse(tilt):
    """Within 0.2 % at the size of a head, on pixels that are not square; a speck elsewhere changes nothing."""
    spacing = (0.5, 0.4)
    rows, columns = np.indices((260, 340), float)
    y, x = rows * spacing[0] - 63, columns * spacing[1] - 66
    along, across = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    mask = (along / 55) ** 2 + (across / 40) ** 2 < 1
    mask[:3, :3] = True
    assert ellipse_circumference(mask, spacing) == pytest.approx(ramanujan(40, 55), rel=2e-3)


def test_coco_ap():
    """One picture found exactly, one missed: of two objects one is recalled at every threshold."""
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 4:20, 6:26] = True
    truth = {"boxes": torch.tensor([[6.0, 4.0, 26.0, 20.0]]), "masks": mask, "labels": torch.ones(1, dtype=torch.int64)}
    found = truth | {"scores": torch.ones(1)}
    missed = {"boxes": torch.zeros(0, 4), "masks": mask[:0], "labels": torch.zeros(0, dtype=torch.int64)}
    missed["scores"] = torch.zeros(0)
    assert set(coco_ap([(found, truth)] * 2).values()) == {1.0}
    # 51 of COCO's 101 recall levels, 0 to 0.5, are reached.
    assert coco_ap([(found, truth), (missed, truth)])["mask_ap"] == pytest.approx(51 / 101)


def test_interval_resamples_groups():
    """As with values drawn group by group, in a loop; wider than if pictures of a group were independent."""
    rng = np.random.default_rng(0)
    values, groups = np.repeat(rng.normal(size=20), 5), np.repeat(np.arange(20), 5).astype(str)
    means = []
    for _ in range(4000):
        drawn = rng.choice(20, 20)
        means.append(np.concatenate([values[groups == str(g)] for g in drawn]).mean())
    found = mean_interval(values, groups, resamples=4000)
    assert found["value"] == pytest.approx(values.mean())
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.04)
    alone = mean_interval(values, np.arange(100).astype(str))
    assert found["high"] - found["low"] > 1.5 * (alone["high"] - alone["low"])
