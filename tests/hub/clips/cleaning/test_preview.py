"""The before/after sheet: what it shows, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.cleaning.screens import decorate, screen, speckle
from usbackbones.clips.cleaning.clean import Cleaned, Cleaning, clean
from usbackbones.clips.cleaning.preview import preview_sheet

GREEN, RED = (90, 220, 90), (255, 80, 80)


def pixels(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(2).sum())


def test_a_sheet_outlines_what_is_kept_and_boxes_the_text(tmp_path):
    made = screen(0, 4)
    decorate(made.frames)
    sheet = tmp_path / "deep" / "sheet.png"
    preview_sheet([("phantom", made.frames, clean(made.frames, Cleaning()))], sheet)
    picture = np.asarray(Image.open(sheet))
    assert pixels(picture, GREEN) > 200  # the outline of a fan
    assert pixels(picture, RED) > 100  # the boxes around the name and the settings
    before, after = picture[12:212, 12:212], picture[12:212, 218:418]
    assert (before.max(2) > 200).sum() > 100
    assert (after.max(2) > 100).sum() > (before.max(2) > 100).sum()  # the sector is shown larger
    assert not (after == RED).all(2).any()


def test_every_clip_has_its_place_and_a_dropped_one_no_second_picture(tmp_path):
    black = np.zeros((3, 60, 80), np.uint8)
    clips = [("black", black, clean(black, Cleaning()))]
    clips += [
        (f"é {number} " * 30, f, clean(f, Cleaning()))
        for number, f in enumerate([speckle(1, 90, 50), speckle(2, 5, 200)])
    ]
    preview_sheet(clips * 3, tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[1] == 3 * 412 + 2 * 12 + 2 * 12 and picture.shape[0] == 3 * 276 + 2 * 12 + 2 * 12
    assert (picture[12:212, 218:418] == 44).all()  # of the black clip
    assert pixels(picture[212:290, 12:418], RED) > 5  # its reason


def test_the_same_clips_make_the_same_bytes(tmp_path):
    frames = speckle(2, 80, 90)
    for name in ("one.png", "two.png"):
        preview_sheet([("clip", frames, clean(frames, Cleaning()))], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_what_cannot_be_shown_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="no clips: a preview needs at least one"):
        preview_sheet([], tmp_path / "sheet.png")
    frames = speckle(3, 60, 60)
    with pytest.raises(ValueError, match="odd: 3 frames before the cleaning and 2 after it"):
        preview_sheet([("odd", frames, Cleaned(frames[:2], (0, 0, 60, 60)))], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
