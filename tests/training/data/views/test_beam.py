"""Where the beam is: found in drawn sectors, phantoms and real clips, and followed through depth and crop."""

import cv2
import numpy as np
import pytest

from tests.phantoms import phantom_clip
from training.data.views.ultrasound import change_depth, find_beam
from usbackbones.clips.read import read_clip


def rng(seed=0):
    return np.random.default_rng(seed)


def sector(size=160, apex=(82.0, -45.0), near=60, far=195, half=0.55):
    """A fan of tissue of gray level 50 to 150, and its true mask [size, size]."""
    y, x = np.mgrid[:size, :size]
    radius, angle = np.hypot(x - apex[0], y - apex[1]), np.arctan2(x - apex[0], y - apex[1])
    inside = (radius > near) & (radius < far) & (np.abs(angle) < half)
    tissue = cv2.GaussianBlur(rng().integers(0, 256, (size, size), dtype=np.uint8), (0, 0), 1)
    return np.where(inside, (tissue * 0.4 + 50).astype(np.uint8), np.uint8(0)), inside


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("squash", [1.0, 0.7])
def test_the_beam_of_a_sector_is_found_with_its_face_and_apex(squash):
    frame, inside = sector()
    frame = cv2.resize(frame, None, fx=squash, fy=1, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(inside.astype(np.uint8), frame.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    shadowed = frame.copy()
    shadowed[50:, 90:100] = 0  # a rib's shadow
    shadowed[5:11, 2:20][::2, ::2] = 255  # writing
    for picture in (frame, shadowed):
        beam = find_beam(picture)
        assert overlap(beam.mask > 0, inside) > 0.97
        assert beam.apex == pytest.approx((82 * squash, -45), abs=6)
        assert beam.face == pytest.approx((82 * squash, 16), abs=3)


def test_a_rectangle_has_no_apex_and_what_is_not_a_picture_is_all_beam():
    linear = np.zeros((120, 100), np.uint8)
    linear[4:110, 10:90] = rng().integers(30, 200, (106, 80), dtype=np.uint8)
    beam = find_beam(linear)
    assert beam.apex is None and beam.face == pytest.approx((49.5, 4), abs=2)
    assert overlap(beam.mask > 0, linear > 0) > 0.97
    for frame in (np.zeros((30, 40), np.uint8), np.full((30, 40), 80, np.uint8), linear[4:110, 10:90]):
        beam = find_beam(frame)
        assert beam.mask.all() and beam.apex is None
        assert beam.face == pytest.approx(((frame.shape[1] - 1) / 2, 0))


@pytest.mark.parametrize("patient", range(6))
def test_the_beam_of_a_phantom_holds_its_tissue(patient):
    for frame in phantom_clip(patient, frames=2, size=128):
        beam = find_beam(frame)
        assert frame[beam.mask == 0].sum() < 0.02 * frame.sum()  # noise in a shadow at the border may be lost
        assert beam.apex is not None and beam.apex[0] == pytest.approx(63.5, abs=8)


def test_the_beam_of_real_clips_holds_their_tissue(shared_data):
    for file in sorted((shared_data / "pocus_lung" / "pocus_videos" / "convex").glob("Cov-Atlas*.gif"))[:3]:
        frame = read_clip(file).frames[0]
        beam = find_beam(frame)
        assert frame[beam.mask == 0].sum() < 0.03 * frame.sum() and 0.3 < (beam.mask > 0).mean() < 1


def test_the_beam_follows_the_depth_and_the_crop():
    frame, _ = sector()
    beam = find_beam(frame)
    deeper, seen = beam.zoomed(0.8), find_beam(change_depth(frame, 0.8, beam.face))
    assert overlap(deeper.mask > 0, seen.mask > 0) > 0.96
    assert deeper.apex == pytest.approx(seen.apex, abs=6) and deeper.face == pytest.approx(seen.face, abs=2)
    box = (4, 20, 140, 120)
    crop = frame[4:144, 20:140]
    for mirrored in (False, True):
        view = cv2.resize(crop[:, ::-1] if mirrored else crop, (70, 70), interpolation=cv2.INTER_AREA)
        cropped, seen = beam.viewed(box, 70, mirrored), find_beam(view)
        assert overlap(cropped.mask > 0, seen.mask > 0) > 0.95
        assert cropped.face == pytest.approx(seen.face, abs=2) and cropped.apex[0] == pytest.approx(seen.apex[0], abs=3)
    np.testing.assert_array_equal(beam.viewed((0, 0, 160, 160), 160, False).mask, beam.mask)
    assert beam.viewed((0, 0, 160, 160), 160, False).apex == pytest.approx(beam.apex)
