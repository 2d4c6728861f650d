"""Cleaning on real clips and stills: no tissue is cut, by masks where there are any and by what is lit elsewhere."""

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from usbackbones.clips.cleaning.clean import Cleaned, Cleaning, clean
from usbackbones.clips.read import read_clip


def kept(cleaned: Cleaned, shape: tuple[int, ...]) -> np.ndarray:
    """Where the frame as it came is still there."""
    inside = np.zeros(shape, bool)
    top, left, bottom, right = cleaned.box
    inside[top:bottom, left:right] = True if cleaned.mask is None else cleaned.mask
    return inside


def still(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    assert image is not None, file
    return image[None]


def lung_clips(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every eighth video of the corpus, eight frames of each."""
    rows = list(csv.DictReader((folder / "pocus_lung" / "groups.csv").open()))
    for row in [row for row in rows if row["kind"] == "video"][::8]:
        clip = read_clip(
            folder / "pocus_lung" / row["path"], max_frames=8, stride=max(1, min(int(row["frames"]), 60) // 8)
        )
        yield row["path"], clip.frames


def test_lung_videos_of_many_vendors_lose_nothing_that_is_lit(shared_data):
    areas, fans, found = [], 0, 0
    for name, frames in lung_clips(shared_data):
        cleaned = clean(frames, Cleaning(letterbox=False))  # bars may be gray, and are then lit
        inside, lit = kept(cleaned, frames.shape[1:]), frames.max(0) > 25
        assert (lit & ~inside).sum() <= 0.002 * lit.sum(), name
        assert cleaned.dropped == "", name
        areas.append(inside.mean())
        fans += any(note.startswith("fan") for note in cleaned.notes)
        found += bool(cleaned.text or cleaned.calipers)
    assert len(areas) >= 16
    assert min(areas) > 0.6  # they were cropped to their sectors by those who published them
    assert fans >= 6
    assert found <= 1  # none of them shows writing


def test_the_heads_of_hc18_stay_inside_the_fan(shared_data):
    fans = 0
    files = sorted((shared_data / "hc18" / "image").iterdir())[::23]
    for file in files:
        frames = still(file)
        head = still(shared_data / "hc18" / "mask" / f"{file.stem}_mask.png")[0] > 0
        cleaned = clean(frames, Cleaning())
        inside = kept(cleaned, frames.shape[1:])
        assert (inside & head).sum() >= 0.98 * head.sum(), file.name
        assert inside.mean() > 0.35, file.name
        fans += any(note.startswith("fan") for note in cleaned.notes)
    assert fans >= 0.4 * len(files)  # the others fill the frame, or have an edge in shadow or under a black box


def test_the_lesions_of_busi_stay_whole_and_little_is_cut(shared_data):
    for file in sorted((shared_data / "busi").glob("*/*).png"))[::23]:
        frames = still(file)
        lesion = np.zeros(frames.shape[1:], bool)
        for mask in file.parent.glob(file.stem + "_mask*.png"):
            lesion |= still(mask)[0] > 0
        inside = kept(clean(frames, Cleaning()), frames.shape[1:])
        assert inside[lesion].all(), file.name
        assert inside.mean() > 0.9, file.name


@pytest.mark.parametrize("name", ["benign (60)", "benign (228)"])
def test_body_marks_written_on_busi_are_found(shared_data, name):
    cleaned = clean(still(shared_data / "busi" / "benign" / f"{name}.png"), Cleaning())
    assert len(cleaned.text) == 1 and cleaned.text_frames == (0,)


@pytest.mark.parametrize("name", ["benign (79)", "benign (227)", "benign (234)", "benign (359)"])
def test_calipers_on_busi_are_found(shared_data, name):
    assert len(clean(still(shared_data / "busi" / "benign" / f"{name}.png"), Cleaning()).calipers) >= 2


def test_muscle_fills_its_rectangle(shared_data):
    files = sorted((shared_data / "timtrack_muscle").glob("*/*.jpg"))[::18]
    assert len(files) > 15
    for file in files:
        frames = still(file)
        inside, lit = kept(clean(frames, Cleaning(letterbox=False)), frames.shape[1:]), frames[0] > 25
        assert (lit & ~inside).sum() <= 0.06 * lit.sum(), file.name  # rulers and logos are lit too
        assert inside.mean() > 0.65, file.name
