"""The geometry of cleaning: letterbox, tissue, and the edges of fans and rectangles."""

import cv2
import numpy as np
import pytest

from tests.hub.clips.cleaning.screens import screen, speckle
from usbackbones.clips.cleaning.edges import side_of
from usbackbones.clips.cleaning.letterbox import content_box
from usbackbones.clips.cleaning.sector import Sector, find_sector


def on_a_screen(outline: np.ndarray, frames: int = 6) -> np.ndarray:
    """Speckle uint8 [T, H, W] where `outline` bool [H, W] says, black elsewhere."""
    return speckle(frames, *outline.shape) * outline.astype(np.uint8)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_the_mask_is_that_of_a_loop_over_the_pixels():
    sector = Sector((30.0, -0.6), (28.0, 0.7), (29.1, 1.5), 6.2, 37.4, 3.0, 36.5)
    mask = sector.mask(40, 50)
    for y in range(40):
        for x in range(50):
            radius = float(np.hypot(x - 29.1, y - 1.5))
            sides = 30.0 - 0.6 * y <= x <= 28.0 + 0.7 * y
            assert mask[y, x] == (sides and 6.2 <= radius <= 37.4 and 3.0 <= y <= 36.5)


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.7])
def test_enlarging_an_outline_covers_its_enlarged_mask(factor):
    sector = Sector((60.0, -0.6), (58.0, 0.7), (59.1, 1.5), 12.2, 74.4)
    size = round(80 * factor), round(120 * factor)
    small = sector.mask(80, 120).astype(np.uint8)
    scaled = cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    large = sector.enlarged(factor).mask(*size)
    assert large[scaled].all()
    assert overlap(large, scaled) > 0.8


def test_a_side_is_the_best_of_all_lines_through_two_rows():
    rng = np.random.default_rng(0)
    rows = np.arange(40)
    first = np.round(60 - 0.8 * rows + rng.exponential(1.5, 40)).astype(int)
    line = side_of(first, rows, 100)
    best = max(
        sum(
            abs(x - (first[i] + (first[j] - first[i]) / (j - i) * (y - i))) <= 2
            for y, x in zip(rows, first, strict=True)
        )
        - 3
        * sum(x < first[i] + (first[j] - first[i]) / (j - i) * (y - i) - 2 for y, x in zip(rows, first, strict=True))
        for i in rows
        for j in rows
        if j - i >= 6
    )
    assert line is not None
    gap = first - (line[0] + line[1] * rows)
    assert (np.abs(gap) <= 2.5).sum() - 3 * (gap < -2.5).sum() >= best - 1
    assert abs(line[1] + 0.8) < 0.05


@pytest.mark.parametrize("height", [30, 90, 140])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_bars_are_cut_exactly(height, level):
    frames = np.full((3, 400, 500), level, np.uint8)
    frames[:, height:-height, 20:-35] = speckle(3, 400 - 2 * height, 445)
    assert content_box(frames.max(0), frames.min(0)) == (height, 20, 400 - height, 465)


def test_a_screen_around_a_fan_and_a_fading_shadow_are_no_bars():
    made = screen(0, 4)
    assert content_box(made.frames.max(0), made.frames.min(0)) == (0, 0, 600, 800)
    fading = (speckle(4, 300, 300) * np.linspace(1, 0, 300)[:, None].clip(0.3) - 50).clip(0, 255).astype(np.uint8)
    fading[:, 280:] = 0
    top, left, bottom, right = content_box(fading.max(0), fading.min(0))
    assert (top, left, right) == (0, 0, 300) and bottom >= 280


def test_a_plain_frame_has_no_bars():
    plain = np.full((50, 60), 9, np.uint8)
    assert content_box(plain, plain) == (0, 0, 50, 60)


@pytest.mark.parametrize("slope", [0.0, 0.25, -0.25])
def test_a_linear_probe_is_a_rectangle_straight_or_steered(slope):
    y, x = np.mgrid[:400, :600]
    truth = (y >= 50) & (y < 350) & (np.abs(x - 300 - slope * (y - 200)) < 140)
    frames = on_a_screen(truth)
    sector, reason = find_sector(frames.max(0), frames.min(0))
    assert (sector.kind, sector.seen, reason) == ("rectangle", ("left", "right", "top", "bottom"), "")
    mask = sector.mask(400, 600)
    assert mask[truth].all() and overlap(mask, truth) > 0.94


@pytest.mark.parametrize(("near", "half"), [(0, 40), (60, 30), (120, 35)])
@pytest.mark.parametrize("upright", [True, False])
def test_a_fan_of_any_probe_is_found_also_upside_down(near, half, upright):
    y, x = np.mgrid[:420, :600]
    truth = (np.abs(np.degrees(np.arctan2(x - 300, y + near / 2))) < half) & (np.hypot(x - 300, y + near / 2) < 380)
    truth &= np.hypot(x - 300, y + near / 2) > near
    truth = truth if upright else truth[::-1]
    frames = on_a_screen(truth)
    sector, _ = find_sector(frames.max(0), frames.min(0))
    mask = sector.mask(420, 600)
    assert sector.kind == "fan"
    assert (mask & truth).sum() / truth.sum() > 0.999 and overlap(mask, truth) > 0.94


@pytest.mark.parametrize("shadow", ["left", "right", "bottom", "middle"])
def test_what_lies_in_shadow_is_not_cut_away(shadow):
    made = screen(2, 8)
    y, x = np.mgrid[:600, :800]
    dark = {"left": x < 330, "right": x > 470, "bottom": y > 330, "middle": np.abs(x - 400) < 60}[shadow]
    frames = np.where(made.truth & dark & (y > 180), 0, made.frames).astype(np.uint8)
    sector, _ = find_sector(frames.max(0), frames.min(0))
    lit = frames.max(0) > 8
    assert (sector.mask(600, 800) & lit).sum() / lit.sum() > 0.999


def test_two_views_side_by_side_are_not_cut_into():
    one, other = screen(0, 6, size=380, height=420, width=400), screen(3, 6, size=380, height=420, width=400)
    frames = np.concatenate([one.frames, other.frames], 2)
    truth = np.concatenate([one.truth, other.truth], 1)
    sector, _ = find_sector(frames.max(0), frames.min(0))
    assert (sector.mask(420, 800) & truth).sum() / truth.sum() > 0.999


def test_a_round_picture_has_no_edge_to_be_cut_at():
    y, x = np.mgrid[:400, :400]
    frames = on_a_screen(np.hypot(y - 200, x - 200) < 170)
    sector, _ = find_sector(frames.max(0), frames.min(0))
    assert sector.mask(400, 400)[frames.max(0) > 0].all()


def test_a_small_frame_is_kept_with_its_reason():
    frames = speckle(3, 40, 90)
    sector, reason = find_sector(frames.max(0), frames.min(0))
    assert sector == Sector()
    assert reason == "a frame of 90 x 40 pixels is too small to find a sector in"
