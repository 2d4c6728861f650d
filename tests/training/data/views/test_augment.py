"""Augmentation: crops, flips and intensity, what the presets do, and what every view must keep to."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import adjust_brightness, adjust_contrast

from tests.phantoms import phantom_clip
from tests.training.data.views.test_beam import rng, sector
from training.data.views.augment import AWCL, IVPP, PRESETS, ULTRASOUND, Augment
from training.data.views.ultrasound import LIFT, add_speckle, equalise, find_beam, smooth, speckle_noise

STILL = Augment(size=96, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)
# Every ultrasound operator at every view, none that would make outside and inside hard to tell apart.
ALL = replace(ULTRASOUND, size=96, depth_chance=1, speckle_chance=1, smooth_chance=1, clahe_chance=1, blur=1.0)


def test_crops_stay_inside_and_keep_to_their_ranges():
    augment, draw = Augment(area=(0.3, 0.9), aspect=(0.8, 1.25)), rng()
    for _ in range(500):
        top, left, height, width = augment.crop_box(120, 100, draw)
        assert 0 <= top <= 120 - height and 0 <= left <= 100 - width
        assert 0.29 <= height * width / 12000 <= 0.91 and 0.78 <= width / height <= 1.28


def test_the_intensity_curve_is_brightness_and_contrast():
    """The look-up table against torchvision's own operators on the image, applied one after the other."""
    view = rng(1).integers(0, 256, (20, 20), dtype=np.uint8)
    augment = Augment(brightness=0.6, contrast=0.6)
    for seed in range(30):
        curve = augment.draw_tone(rng(seed)).curve(view)
        draw = rng(seed)
        draw.random()
        brightness, contrast = draw.uniform(0.4, 1.6), draw.uniform(0.4, 1.6)
        steps = [lambda x, b=brightness: adjust_brightness(x, b), lambda x, c=contrast: adjust_contrast(x, c)]
        image = Image.fromarray(view)
        for change in steps if draw.random() < 0.5 else steps[::-1]:
            image = change(image)
        assert np.abs(curve[view].astype(int) - np.asarray(image).astype(int)).max() <= 2


@pytest.mark.parametrize(("apart", "unchanged"), [(False, 0.5), (True, 0.25)])
def test_brightness_and_contrast_are_changed_together_or_apart(apart, unchanged):
    view = rng(1).integers(0, 200, (20, 20), dtype=np.uint8)
    augment = Augment(jitter=0.5, jitter_apart=apart, brightness=0.3, contrast=0.3)
    curves = [augment.draw_tone(rng(seed)).curve(view) for seed in range(800)]
    assert abs(np.mean([(curve == np.arange(256)).all() for curve in curves]) - unchanged) < 0.06


def test_contrast_is_about_the_mean_inside_the_mask():
    view, mask = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    view[5:10], mask[5:10] = 90, 255
    curve = Augment(brightness=0, contrast=0.9).draw_tone(rng(3)).curve(view, mask)
    assert curve[90] == 90 and not np.array_equal(curve, np.arange(256))
    assert curve[0] == 0 and (curve <= LIFT * np.arange(256)).all()


def test_a_neutral_augmentation_is_the_frame():
    frame = rng(2).integers(0, 256, (96, 96), dtype=np.uint8)
    np.testing.assert_array_equal(STILL(frame, rng()), frame)
    np.testing.assert_array_equal(replace(STILL, flip=1)(frame, rng()), frame[:, ::-1])


def test_the_blur_has_the_kernel_that_was_asked_for():
    point = np.zeros((96, 96), np.uint8)
    point[48, 48] = 255
    widths = {0: [], 5: []}
    for kernel, seen in widths.items():
        for seed in range(20):
            blurred = replace(STILL, blur=2.0, blur_chance=1, blur_kernel=kernel)(point, rng(seed))
            seen.append(np.count_nonzero(blurred.any(0)))
    assert max(widths[5]) == 5 and max(widths[0]) > 7
    assert max(np.subtract(widths[5], widths[0])) == 0


def test_the_presets_keep_their_ranges():
    draw = rng()
    areas = {name: np.prod([p.crop_box(1000, 1000, draw)[2:] for _ in range(300)], 1) for name, p in PRESETS.items()}
    least = {name: area.min() / 1e6 for name, area in areas.items()}
    expected = {"uscl": 0.8, "meta_uscl": 0.7, "awcl": 0.08, "ivpp": 0.4, "ultrasound": 1.0}
    assert least == pytest.approx(expected, abs=0.02)
    frame = np.full((64, 64), 100, np.uint8)
    # A constant frame is its own mean, so only brightness moves it; one view in two is as bright as before for IVPP.
    levels = np.array([replace(IVPP, size=32)(frame, draw)[0, 0] for _ in range(400)])
    assert 75 <= levels.min() < 80 and 120 < levels.max() <= 125 and abs(np.mean(levels == 100) - 0.5) < 0.1
    levels = np.array([replace(AWCL, size=32)(frame, draw)[0, 0] for _ in range(400)])
    assert 60 <= levels.min() < 65 and 135 < levels.max() <= 140 and abs(np.mean(levels == 100) - 0.2) < 0.1


def test_ivpp_blurs_one_view_in_four():
    point = np.zeros((96, 96), np.uint8)
    point[48, 48] = 255
    still = replace(IVPP, size=96, area=(1, 1), aspect=(1, 1), jitter=0)
    draw = rng()
    blurred = [np.count_nonzero(still(point, draw)) > 1 for _ in range(400)]
    assert abs(np.mean(blurred) - 0.25) < 0.07


@pytest.mark.parametrize("augment", [*PRESETS.values(), ALL], ids=[*PRESETS, "all"])
def test_a_view_is_a_function_of_frame_and_seed_alone(augment):
    frame, other = phantom_clip(1, frames=2, size=96)
    first = [augment(frame, rng(seed)) for seed in range(8)]
    for seed in reversed(range(8)):
        augment(other, rng(seed + 100))
        np.random.seed(seed)  # noqa: NPY002  the global generators must not matter
        cv2.setRNGSeed(seed)
        np.testing.assert_array_equal(augment(frame, rng(seed)), first[seed])
    assert len({view.tobytes() for view in first}) == 8
    assert all(view.shape == (augment.size, augment.size) and view.dtype == np.uint8 for view in first)


@pytest.mark.parametrize("augment", [*PRESETS.values(), ALL], ids=[*PRESETS, "all"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (2, 90), (40, 40)])
@pytest.mark.filterwarnings("error")
def test_constant_and_tiny_frames_survive(augment, shape):
    for level in (0, 3, 77, 255):
        frame = np.full(shape, level, np.uint8)
        for seed in range(4):
            view = augment(frame, rng(seed))
            assert view.shape == (augment.size, augment.size)
            assert augment.beam or len(np.unique(view)) == 1
            assert level or not view.any()
        for apex in (None, (0.0, -5.0), (0.0, 0.0), (9.0, 3.0)):
            assert add_speckle(frame, 1.0, speckle_noise(rng()), apex).shape == shape
        assert equalise(frame, 2.0).shape == smooth(frame, 30.0).shape == shape


def test_nothing_leaks_out_of_the_beam():
    """The frame's beam, taken through the same depth, crop and flip as a picture of its own, bounds the view."""
    frame, _ = sector()
    beam = find_beam(frame)
    geometry = replace(ALL, jitter=0, gamma=0, speckle=0, smooth=0, clahe=0, blur=0)
    for seed in range(30):
        bright = replace(ALL, area=(0.5, 1), brightness=0.5, contrast=0.9)
        where = replace(geometry, area=(0.5, 1))(beam.mask, rng(seed))
        view = bright(frame, rng(seed))
        assert not view[where == 0].any() and view[where == 255].mean() > 20


def test_the_surround_turns_gray_without_a_beam():
    frame, inside = sector(size=96, apex=(48.0, -30.0), near=40, far=120)
    lifted = Augment(size=96, area=(1, 1), aspect=(1, 1), flip=0, brightness=0, contrast=0.5)
    views = [lifted(frame, rng(seed)) for seed in range(10)]
    kept = [replace(lifted, beam=True)(frame, rng(seed)) for seed in range(10)]
    assert max(view[~inside].max() for view in views) > 5 and max(view[~inside].max() for view in kept) == 0
