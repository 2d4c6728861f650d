"""Text, calipers and marks that stand still: planted ones are found, removed if wanted, and tissue is none."""

import cv2
import numpy as np
import pytest

from tests.hub.clips.cleaning.screens import NAME, decorate, screen
from tests.phantoms import phantom_clip
from usbackbones.clips.cleaning.clean import Cleaning, clean
from usbackbones.clips.cleaning.marks import still_marks
from usbackbones.clips.cleaning.text import find_writing, lines_of

FONT = cv2.FONT_HERSHEY_SIMPLEX


def covered(boxes, mask: np.ndarray) -> float:
    """The share of a planted mask that lies in the boxes."""
    inside = np.zeros(mask.shape, bool)
    for top, left, bottom, right in boxes:
        inside[top:bottom, left:right] = True
    return float((inside & mask).sum() / mask.sum())


def written(shape: tuple[int, int], words: str, place: tuple[int, int], scale: float = 0.6) -> np.ndarray:
    canvas = np.zeros(shape, np.uint8)
    cv2.putText(canvas, words, place, FONT, scale, 255, 2 if scale > 0.8 else 1)
    return canvas > 0


@pytest.mark.parametrize("scale", [0.4, 0.8, 1.0])
@pytest.mark.parametrize("ink", [140, 255])
def test_a_name_beside_the_sector_is_flagged_and_masked(scale, ink):
    made = screen(0, 4)
    name = written((600, 800), NAME, (12, 40), scale)
    made.frames[:, name] = ink
    cleaned = clean(made.frames, Cleaning())
    assert covered(cleaned.text, name) > 0.9
    assert cleaned.text_frames == (0, 1, 2, 3)
    assert any("look for names" in note for note in cleaned.notes)
    top, left, bottom, right = cleaned.box
    assert not cleaned.frames[:, name[top:bottom, left:right]].any()


@pytest.mark.parametrize("shown", [(5,), (0, 1, 2), tuple(range(4, 12))])
def test_the_frames_that_show_a_name_are_told(shown):
    made = screen(2, 12)
    name = written((600, 800), NAME, (12, 580))
    made.frames[np.ix_(shown)] = np.where(name, 230, made.frames[np.ix_(shown)])
    cleaned = clean(made.frames, Cleaning())
    assert covered(cleaned.text, name) > 0.9
    assert cleaned.text_frames == shown


@pytest.mark.parametrize("patient", [0, 1, 2, 5])
def test_a_name_over_moving_tissue_is_flagged_and_can_be_blacked_out(patient):
    made = screen(patient, 24)
    name = written((600, 800), NAME, (300, 330), 0.5)
    made.frames[:, name] = 255
    cleaned = clean(made.frames, Cleaning(overlays="black"))
    assert covered(cleaned.text, name) > 0.6  # over tissue as bright as ink some letters cannot be told
    assert cleaned.text_frames == tuple(range(24))
    top, left, bottom, right = cleaned.box
    assert (cleaned.frames[:, name[top:bottom, left:right]] == 0).mean() > 0.6


def test_inpainting_fills_the_name_and_changes_nothing_else():
    made = screen(5, 12)
    name = written((600, 800), NAME, (300, 330), 0.5)
    made.frames[:, name] = 255
    kept, filled = (clean(made.frames, Cleaning(overlays=choice)) for choice in ("keep", "inpaint"))
    top, left, bottom, right = kept.box
    mine = name[top:bottom, left:right]
    near = cv2.dilate(mine.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    assert (filled.frames[:, mine] == 255).mean() < 0.1
    np.testing.assert_array_equal(filled.frames[:, ~near], kept.frames[:, ~near])


@pytest.mark.parametrize("frames", [16, 1])
def test_a_phantom_without_writing_has_none(frames):
    for patient in range(4):
        cleaned = clean(phantom_clip(patient, frames=frames, size=320), Cleaning())
        assert (cleaned.text, cleaned.text_frames, cleaned.calipers) == ((), (), ())


def test_a_logo_a_bar_ticks_and_an_ecg_are_no_calipers():
    made = screen(3, 12)
    decorate(made.frames)
    assert clean(made.frames, Cleaning()).calipers == ()


@pytest.mark.parametrize("kind", [cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS])
@pytest.mark.parametrize("size", [7, 13])
@pytest.mark.parametrize("frames", [12, 1])
def test_calipers_on_tissue_are_found_where_they_are(kind, size, frames):
    clip = phantom_clip(3, frames=frames, size=400)
    places = [(180, 200), (240, 210), (205, 160), (210, 250)]
    for frame in clip:
        for place in places:
            cv2.drawMarker(frame, place, 255, kind, size, 1)
    found = {
        ((top + bottom) // 2, (left + right) // 2) for top, left, bottom, right in clean(clip, Cleaning()).calipers
    }
    hits = [place for place in places if any(np.hypot(place[0] - x, place[1] - y) <= 3 for y, x in found)]
    assert len(hits) >= 3 and len(found) <= 5


def test_one_cross_alone_is_no_measurement():
    image = np.zeros((200, 200), np.uint8)
    cv2.drawMarker(image, (90, 90), 255, cv2.MARKER_CROSS, 11, 1)
    assert find_writing(image).calipers == ()


def test_writing_on_a_large_still_is_found_in_its_pixels():
    image = np.zeros((1500, 2400), np.uint8)
    name = written(image.shape, NAME, (200, 300), 1.6)
    image[name] = 255
    assert covered(find_writing(image).text, name) > 0.95
    assert find_writing(image, calipers=False).calipers == ()


@pytest.mark.parametrize("patient", [0, 2, 5])
def test_marks_that_stand_still_over_moving_tissue_are_found(patient):
    clip = phantom_clip(patient, frames=24, size=320)
    mark = written((320, 320), "LIVER", (120, 200), 0.5)
    clip[:, mark] = 230
    found = still_marks(clip.max(0), clip.min(0))
    assert (found & mark).sum() / mark.sum() > 0.9
    assert (found & ~cv2.dilate(mark.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).sum() < 20


def test_a_still_has_no_marks_that_stand_still():
    frame = phantom_clip(0, frames=1, size=320)[0]
    assert not still_marks(frame, frame).any()


def test_words_of_a_line_are_joined_and_those_of_other_lines_are_not():
    words = [(10, 5, 20, 40), (11, 60, 21, 90), (12, 140, 20, 170), (40, 5, 50, 40), (8, 95, 60, 130)]
    assert lines_of(words) == ((8, 95, 60, 130), (10, 5, 21, 90), (12, 140, 20, 170), (40, 5, 50, 40))
    assert lines_of([]) == ()
