"""Augmentation: the operators against their slow forms or a property, and what every view must keep to."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import adjust_brightness, adjust_contrast

from training.data.augment import AWCL, IVPP, PRESETS, ULTRASOUND, Augment
from training.data.ultrasound import LIFT, add_speckle, change_depth, equalise, find_beam, smooth
from usbackbones.clips import read_clip
from usbackbones.phantom import phantom_clip

STILL = Augment(size=96, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)
# Every ultrasound operator at every view, none that would make outside and inside hard to tell apart.
ALL = replace(ULTRASOUND, size=96, depth_chance=1, speckle_chance=1, smooth_chance=1, clahe_chance=1, blur=1.0)


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
        curve = augment.intensity_curve(view, rng(seed))
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
    curves = [augment.intensity_curve(view, rng(seed)) for seed in range(800)]
    assert abs(np.mean([(curve == np.arange(256)).all() for curve in curves]) - unchanged) < 0.06


def test_contrast_is_about_the_mean_inside_the_mask():
    view, mask = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    view[5:10], mask[5:10] = 90, 255
    curve = Augment(brightness=0, contrast=0.9).intensity_curve(view, rng(3), mask)
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
            assert add_speckle(frame, 1.0, rng(), apex).shape == shape
        assert equalise(frame, 2.0).shape == smooth(frame, 30.0).shape == shape


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


def test_depth_is_a_scaling_about_the_face():
    """Against bilinear interpolation written out; OpenCV's coordinates are good to 1/32 pixel."""
    frame = cv2.GaussianBlur(rng().integers(0, 256, (30, 40), dtype=np.uint8), (0, 0), 2)
    for zoom in (0.8, 1.25):
        scaled = change_depth(frame, zoom, (21.0, 3.0))
        for y in range(30):
            for x in range(40):
                u, v = (x - 21) / zoom + 21, (y - 3) / zoom + 3
                value = 0.0
                for i in (int(np.floor(v)), int(np.floor(v)) + 1):
                    for j in (int(np.floor(u)), int(np.floor(u)) + 1):
                        if 0 <= i < 30 and 0 <= j < 40:
                            value += (1 - abs(v - i)) * (1 - abs(u - j)) * float(frame[i, j])
                assert abs(value - scaled[y, x]) <= 4
        assert scaled[3, 21] == frame[3, 21]
    np.testing.assert_array_equal(change_depth(frame, 1.0, (21.0, 3.0)), frame)


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


@pytest.mark.parametrize("apex", [None, (110.0, -90.0)])
def test_speckle_keeps_the_mean_and_grows_with_the_root_of_the_level(apex):
    for level in (25, 100, 180):
        flat = np.full((200, 220), level, np.uint8)
        noisy = np.stack([add_speckle(flat, 0.8, rng(seed), apex) for seed in range(12)]).astype(float)
        assert abs(noisy.mean() - level) < 0.5
        assert noisy.std() == pytest.approx(0.8 * np.sqrt(level), rel=0.15)
    black = np.zeros((200, 220), np.uint8)
    assert not add_speckle(black, 3.0, rng(), apex).any()
    frame = rng().integers(0, 256, (60, 50), dtype=np.uint8)
    np.testing.assert_array_equal(add_speckle(frame, 0.0, rng(), apex), frame)


def test_speckle_lies_along_the_lines_of_sight():
    """Each pixel against the polar grid of noise, interpolated by hand at its line and its sample."""
    flat, apex = np.full((64, 48), 120, np.uint8), (20.0, -30.0)
    noisy = add_speckle(flat, 1.0, rng(5), apex)
    noise = rng(5).standard_normal((128, 64), dtype=np.float32).astype(float)
    first, last = (0 - 20) / 93, (47 - 20) / 93
    reach = np.hypot(27, 93) - 30
    checked = 0
    for y in range(64):
        for x in range(48):
            line = ((x - 20) / (y + 30) - first) / (last - first) * 63
            sample = (np.hypot(x - 20, y + 30) - 30) / reach * 127
            i, j = int(sample), int(line)
            if not (0 <= line < 63 and 0 <= sample < 127):
                continue
            down, right = sample - i, line - j
            value = (1 - down) * ((1 - right) * noise[i, j] + right * noise[i, j + 1])
            value += down * ((1 - right) * noise[i + 1, j] + right * noise[i + 1, j + 1])
            assert abs(120 + 1.5 * np.sqrt(120) * value - noisy[y, x]) < 4
            checked += 1
    assert checked > 1500


def test_grain_widens_with_depth():
    noisy = add_speckle(np.full((200, 200), 120, np.uint8), 0.8, rng(), (100.0, -40.0)).astype(float) - 120

    def alike(rows):  # correlation of neighbours two pixels apart, near the axis where no line leaves the view
        band = noisy[rows, 80:120]
        return (band[:, 2:] * band[:, :-2]).mean() / band.var()

    assert alike(slice(150, 200)) > alike(slice(0, 40)) + 0.2


def test_smoothing_is_a_bilateral_filter():
    """Against the weights written out over the disc of radius 2, in float64."""
    view = rng().integers(60, 120, (14, 15), dtype=np.uint8)
    view[:, 8:] += 100
    smoothed = smooth(view, 25.0)
    padded = np.pad(view.astype(float), 2, mode="reflect")
    for y in range(14):
        for x in range(15):
            total = weight = 0.0
            for i in range(-2, 3):
                for j in range(-2, 3):
                    if i * i + j * j <= 4:
                        value = padded[y + 2 + i, x + 2 + j]
                        w = np.exp(-(i * i + j * j) / (2 * 2.0**2) - (value - view[y, x]) ** 2 / (2 * 25.0**2))
                        total, weight = total + w * value, weight + w
            assert abs(total / weight - smoothed[y, x]) <= 1
    assert smoothed[:, :8].std() < view[:, :8].std() and smoothed[:, 8:].min() > 150 > smoothed[:, :8].max()


def test_local_contrast_keeps_the_order_of_gray_levels_and_black():
    view = (rng().normal(0, 9, (96, 96)) + np.linspace(20, 120, 96)).clip(0, 255).astype(np.uint8)
    view[40:50, 40:60] = 0
    equal = equalise(view, 2.0)
    # A pixel nearer to the corner than the first tile's middle is mapped by that tile alone.
    for corner in np.s_[:6, :6], np.s_[:6, -6:], np.s_[-6:, :6], np.s_[-6:, -6:]:
        order = view[corner].ravel().argsort(kind="stable")
        assert (np.diff(equal[corner].ravel()[order].astype(int)) >= 0).all()
    assert not equal[view == 0].any() and (equal <= LIFT * view.astype(int)).all()
    spread = [
        cv2.blur((image.astype(np.float32) - cv2.blur(image, (9, 9))) ** 2, (9, 9)).mean() for image in (view, equal)
    ]
    assert spread[1] > spread[0]
    assert np.abs(equalise(view, 1.2).astype(int) - view).mean() < np.abs(equalise(view, 4.0).astype(int) - view).mean()


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
