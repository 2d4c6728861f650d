"""Cleaning as a whole: phantoms on made-up screens, clips that are no clips, and every option."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests.hub.clips.cleaning.screens import decorate, screen, speckle
from usbackbones.clips.cleaning.clean import Cleaned, Cleaning, clean
from usbackbones.clips.cleaning.extremes import extremes_of


def kept(cleaned: Cleaned, shape: tuple[int, ...]) -> np.ndarray:
    """Where the frame as it came is still there."""
    inside = np.zeros(shape, bool)
    top, left, bottom, right = cleaned.box
    inside[top:bottom, left:right] = True if cleaned.mask is None else cleaned.mask
    return inside


@pytest.mark.parametrize("frames", [12, 2, 1])
@pytest.mark.parametrize("patient", [0, 3, 5])
def test_a_sector_is_cut_out_of_its_screen(patient, frames):
    made = screen(patient, frames)
    decorate(made.frames)
    cleaned = clean(made.frames, Cleaning())
    found = kept(cleaned, made.truth.shape)
    assert (found & made.truth).sum() / (found | made.truth).sum() >= 0.9
    assert (found & made.truth).sum() / made.truth.sum() >= 0.999  # no tissue is cut
    top, left, bottom, right = cleaned.box
    expected = np.where(found, made.frames, 0)[:, top:bottom, left:right]
    np.testing.assert_array_equal(cleaned.frames, expected)
    assert cleaned.dropped == ""
    assert any(note.startswith("fan: edges seen left, right") for note in cleaned.notes)


@pytest.mark.parametrize("ground", [0, 40, 200])
def test_a_sector_is_found_inside_a_letterbox_on_any_ground(ground):
    made = screen(2, 8, ground=ground)
    decorate(made.frames)
    made.frames[:, :60] = made.frames[:, -60:] = 16
    cleaned = clean(made.frames, Cleaning())
    found, truth = kept(cleaned, made.truth.shape), made.truth
    assert (found & truth).sum() / (found | truth).sum() >= 0.9


def test_a_sector_is_found_in_noise():
    made = screen(3, 8)
    noisy = made.frames + np.random.default_rng(0).normal(0, 4, made.frames.shape)
    found = kept(clean(noisy.clip(0, 255).astype(np.uint8), Cleaning()), made.truth.shape)
    assert (found & made.truth).sum() / (found | made.truth).sum() >= 0.9


def test_without_an_option_its_step_is_not_taken():
    made = screen(0, 4)
    decorate(made.frames)
    made.frames[:, :50] = 90
    untouched = clean(made.frames, Cleaning(letterbox=False, crop=False, mask=False, report=False))
    assert untouched.frames.base is made.frames or untouched.frames is made.frames
    assert (untouched.box, untouched.mask, untouched.text) == ((0, 0, 600, 800), None, ())
    np.testing.assert_array_equal(untouched.frames, made.frames)
    cropped = clean(made.frames, Cleaning(mask=False))
    assert cropped.mask is None and cropped.box != (0, 0, 600, 800)
    masked = clean(made.frames, Cleaning(letterbox=False, crop=False))
    assert masked.box == (0, 0, 600, 800) and masked.mask is not None and masked.mask.shape == (600, 800)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.zeros((5, 80, 90), np.uint8), "black: no pixel of 5 frames is above 0 of 255"),
        (np.full((1, 80, 90), 16, np.uint8), "black"),
        (np.full((3, 80, 90), 255, np.uint8), "plain: all pixels of 3 frames lie between 255 and 255"),
        (np.repeat(speckle(1, 80, 90), 6, axis=0), "frozen: 0.00% of the pixels change over 6 frames"),
        (np.repeat(speckle(1, 80, 90), 2, axis=0), "frozen"),
    ],
)
def test_what_is_no_clip_is_dropped_with_a_reason(frames, reason):
    cleaned = clean(frames, Cleaning())
    assert cleaned.dropped.startswith(reason)
    assert cleaned.frames is frames
    assert clean(frames, Cleaning(drop_black=False, drop_frozen=False)).dropped == ""


def test_a_frozen_clip_is_seen_through_a_codec_and_a_running_clock():
    frozen = np.repeat(speckle(1, 200, 300), 10, axis=0)
    flicker = np.random.default_rng(1).integers(-3, 4, frozen.shape)
    frozen = (frozen + flicker).clip(0, 255).astype(np.uint8)
    for number, frame in enumerate(frozen):
        cv2.putText(frame, f"0:0{number}", (250, 195), cv2.FONT_HERSHEY_SIMPLEX, 0.3, 255, 1)
    assert clean(frozen, Cleaning()).dropped.startswith("frozen")


def test_a_still_and_a_slow_clip_are_not_frozen():
    assert clean(speckle(1, 80, 90), Cleaning()).dropped == ""
    assert clean(speckle(2, 80, 90), Cleaning()).dropped == ""


def test_black_frames_at_a_cut_do_not_hide_the_sector():
    made = screen(5, 8)
    made.frames[:2] = 0
    cleaned = clean(made.frames, Cleaning())
    found = kept(cleaned, made.truth.shape)
    assert (found & made.truth).sum() / (found | made.truth).sum() >= 0.9
    assert "2 of 8 frames are black" in cleaned.notes
    assert len(cleaned.frames) == 8


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 1, 300), (3, 300, 1), (1, 3, 7), (4, 47, 64), (2, 48, 48), (1, 9, 2000)]
)
@pytest.mark.parametrize("fill", ["noise", "bars", "speckle"])
def test_any_size_and_content_goes_through_all_of_it(shape, fill):
    rng = np.random.default_rng(0)
    frames = speckle(*shape) if fill == "speckle" else rng.integers(0, 256, shape, np.uint8)
    if fill == "bars":
        frames[:, : shape[1] // 3] = 7
    for overlays in ("keep", "black", "inpaint"):
        cleaned = clean(frames, Cleaning(drop_black=False, drop_frozen=False, overlays=overlays))
        top, left, bottom, right = cleaned.box
        assert 0 <= top < bottom <= shape[1] and 0 <= left < right <= shape[2]
        assert cleaned.frames.shape == (shape[0], bottom - top, right - left)
        assert cleaned.frames.dtype == np.uint8
        assert cleaned.mask is None or cleaned.mask.shape == cleaned.frames.shape[1:]


def test_a_picture_that_fills_its_frame_is_kept_whole_and_says_so():
    cleaned = clean(speckle(6, 200, 300), Cleaning())
    assert (cleaned.box, cleaned.mask) == ((0, 0, 200, 300), None)
    assert cleaned.notes == ("not cropped: the picture fills the frame",)


def test_cleaning_is_deterministic_and_leaves_its_input_alone():
    made = screen(0, 4)
    decorate(made.frames)
    before = made.frames.copy()
    first, second = (clean(made.frames, Cleaning(overlays="inpaint")) for _ in range(2))
    np.testing.assert_array_equal(made.frames, before)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert (first.box, first.notes, first.text) == (second.box, second.notes, second.text)


def test_extremes_are_those_of_a_loop():
    frames = np.random.default_rng(2).integers(0, 256, (13, 6, 5), np.uint8)
    found = extremes_of(frames)
    assert found.highest.tolist() == [[max(int(f[y, x]) for f in frames) for x in range(5)] for y in range(6)]
    assert found.lowest.tolist() == [[min(int(f[y, x]) for f in frames) for x in range(5)] for y in range(6)]
    ends = [0, 5, 9, 13]  # 13 frames are three runs of at least four
    runs = [frames[a:b].min(0) for a, b in pairwise(ends)]
    np.testing.assert_array_equal(found.held, np.max(runs, axis=0))


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4), np.float32), np.zeros((0, 4, 4), np.uint8)]
)
def test_what_is_no_stack_of_gray_frames_is_refused(frames):
    with pytest.raises(ValueError, match=r"cleaning takes uint8 \[T, H, W\], not empty"):
        clean(frames, Cleaning())


def test_removing_without_looking_is_refused():
    with pytest.raises(ValueError, match="overlays='black' needs report=True"):
        clean(np.zeros((1, 4, 4), np.uint8), Cleaning(report=False, overlays="black"))
