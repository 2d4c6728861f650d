"""The ultrasound operators against their slow forms or a property."""

import cv2
import numpy as np
import pytest

from training.data.views.ultrasound import LIFT, add_speckle, change_depth, equalise, smooth, speckle_noise


def rng(seed=0):
    return np.random.default_rng(seed)


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


@pytest.mark.parametrize("apex", [None, (110.0, -90.0)])
def test_speckle_keeps_the_mean_and_grows_with_the_root_of_the_level(apex):
    for level in (25, 100, 180):
        flat = np.full((200, 220), level, np.uint8)
        noisy = np.stack([add_speckle(flat, 0.8, speckle_noise(rng(seed)), apex) for seed in range(12)]).astype(float)
        assert abs(noisy.mean() - level) < 0.5
        assert noisy.std() == pytest.approx(0.8 * np.sqrt(level), rel=0.15)
    black = np.zeros((200, 220), np.uint8)
    assert not add_speckle(black, 3.0, speckle_noise(rng()), apex).any()
    frame = rng().integers(0, 256, (60, 50), dtype=np.uint8)
    np.testing.assert_array_equal(add_speckle(frame, 0.0, speckle_noise(rng()), apex), frame)


def test_speckle_lies_along_the_lines_of_sight():
    """Each pixel against the polar grid of noise, interpolated by hand at its line and its sample."""
    flat, apex = np.full((64, 48), 120, np.uint8), (20.0, -30.0)
    noisy = add_speckle(flat, 1.0, speckle_noise(rng(5)), apex)
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
    noisy = (
        add_speckle(np.full((200, 200), 120, np.uint8), 0.8, speckle_noise(rng()), (100.0, -40.0)).astype(float) - 120
    )

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
