"""Masks that would lose a label without a word: thin rings, small marks, dark colors, JPEG, negative numbers, npz."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.hub.segmentation.test_masks import DISC, SHAPE, pixels, read, save
from usbackbones.clips.stored import Stored
from usbackbones.data.item import DataError
from usbackbones.segmentation.mask_values import COLOR, Seen, _apart, _rgb, values_of

ROWS, COLUMNS = np.indices(SHAPE)


def disc(radius, row=30, column=40):
    return np.hypot(ROWS - row, COLUMNS - column) < radius


def levels(**of):
    """uint8 of some masks, each with its level as `v127=mask`."""
    image = np.zeros(SHAPE, np.uint8)
    for name, mask in of.items():
        image[mask] = int(name[1:])
    return image


QUESTIONS = {
    "a ring of two pixels": (levels(v127=disc(17), v255=disc(15)), "127"),
    "a small mark far away": (levels(v255=disc(15), v127=disc(2, 4, 4)), "127"),
    "small numbers beside 255": (levels(v255=disc(15), v1=disc(2, 4, 4), v2=disc(2, 50, 70)), "1"),
    "numbers in red alone": (
        np.dstack([levels(v1=disc(9), v2=disc(5, 9, 9)), np.zeros((*SHAPE, 2), np.uint8)]),
        "010000",
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_label_that_fills_no_area_is_asked_about(tmp_path, name):
    mask, value = QUESTIONS[name]
    with pytest.raises(DataError, match=rf"the masks hold [34] values, .* #?{value}.*: give --foreground"):
        read(save(tmp_path, [mask]))


def test_pixels_that_count_with_the_nearer_value_are_told(tmp_path):
    items, notes = read(save(tmp_path, [levels(v128=disc(16), v255=disc(15))]))
    assert pixels(items) == [disc(16).sum()]
    share = (disc(16) & ~disc(15)).mean()
    assert any(note.endswith(f"other values ({share:.1%}) count with the nearer of the two") for note in notes)
    assert not any("other values" in note for note in read(save(tmp_path, [DISC]))[1])


def test_dark_colors_are_labels_and_a_tint_of_jpeg_is_none():
    red = np.dstack([levels(v1=disc(9)), np.zeros((*SHAPE, 2), np.uint8)])
    assert set(np.unique(values_of(Stored(red)))) == {0, COLOR + (1 << 16)}
    assert set(np.unique(values_of(Stored(red, lossy=True)))) == {0}


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_labels_of_jpeg_are_not_joined(tmp_path, quality):
    """Gray and colored; a small one fills no even area, and lies between no two others."""

    def through_jpeg(mask):
        stream = io.BytesIO()
        Image.fromarray(mask).save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    gray = through_jpeg(levels(v127=disc(15), v255=disc(6, 10, 10)))
    with pytest.raises(DataError, match="the masks hold 3 values"):
        read(save(tmp_path, [gray]))
    zeros = np.zeros(SHAPE, np.uint8)
    with pytest.raises(DataError, match=r"values, 0 \(.*#.*#"):
        read(save(tmp_path, [through_jpeg(np.dstack([levels(v255=disc(15)), levels(v255=disc(6, 10, 10)), zeros]))]))
    items, _ = read(save(tmp_path, [through_jpeg(np.dstack([levels(v255=disc(15)), zeros, zeros]))]))
    assert abs(pixels(items)[0] - disc(15).sum()) < 10


def test_zero_and_a_negative_number_are_a_question(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    save(tmp_path, [DISC])
    (tmp_path / "masks" / "a0.png").unlink()
    labels = np.where(DISC, -1, 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), tmp_path / "masks" / "a0.nii.gz")
    with pytest.raises(DataError, match=r"hold 2 values, -1 \(.*\), 0 .*: give --foreground -1"):
        read(tmp_path)
    assert pixels(read(tmp_path, foreground="-1")[0]) == [DISC.sum()]
    nibabel.save(nibabel.Nifti1Image(labels.T * 2 + 1, np.eye(4)), tmp_path / "masks" / "a0.nii.gz")
    assert pixels(read(tmp_path)[0]) == [(~DISC).sum()]  # -1 and 1, as of a level set


def test_labels_of_an_npz_are_numbers_as_those_of_an_npy(tmp_path):
    save(tmp_path, [DISC])
    (tmp_path / "masks" / "a0.png").unlink()
    np.savez(tmp_path / "masks" / "a0.npz", mask=levels(v1=disc(15)).astype(np.int16) * 300)
    items, notes = read(tmp_path)
    assert pixels(items) == [disc(15).sum()] and any("300 is foreground" in note for note in notes)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_that_are_no_step_against_the_obvious_loop(seed):
    rng = np.random.default_rng(seed)
    values = np.array([0, 90, 255, COLOR + (255 << 16), COLOR + (128 << 16)])
    place = rng.integers(0, len(values), (7, 9))
    colors = _rgb(values)
    slow = [0] * len(values)
    for y, x in np.ndindex(place.shape):
        around = [
            colors[place[b, a]]
            for b in range(max(y - 1, 0), min(y + 2, 7))
            for a in range(max(x - 1, 0), min(x + 2, 9))
        ]
        own, step, strictly = colors[place[y, x]], True, False
        for channel in range(3):
            low, high = min(c[channel] for c in around), max(c[channel] for c in around)
            strictly |= bool(low < own[channel] < high)
            step &= bool(low < own[channel] < high or low == high)
        slow[place[y, x]] += not (step and strictly)
    assert _apart(place, colors).tolist() == slow


def test_a_value_is_explained_by_the_nearest_point_between_two_labels():
    """Against points along each line in small steps."""
    rng = np.random.default_rng(0)
    kept = [0, COLOR + 0xFF0000, COLOR + 0x00FF00]
    seen = Seen()
    seen.pixels.update({int(value): 1 for value in COLOR + rng.integers(0, 1 << 24, 60)})
    points, ends = _rgb(np.array(sorted(seen.pixels))), _rgb(np.array(kept))
    lines = [a + t * (b - a) for a in ends for b in ends for t in np.linspace(0, 1, 200)]
    slow = [min(np.linalg.norm(point - on) for on in lines) for point in points]
    found = seen._explained_by_none(kept)
    assert found == [value for value, off in zip(sorted(seen.pixels), slow, strict=True) if off > 96]
