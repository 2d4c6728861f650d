"""Tables and trees as people have them: patients written in several ways, words for empty, accents, circular links."""

import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from usbackbones.clips.read import read_clip
from usbackbones.clips.stored import stored_frames
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError
from usbackbones.predicting.inputs import read_inputs
from usbackbones.segmentation.dataset import read_masked


def still(file):
    """An image of one gray level."""
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(file)


def table(folder, header, rows):
    """A table of one still a row, two classes in turn."""
    lines = [f"path,label,{header}"]
    for number, row in enumerate(rows):
        still(folder / f"x{number}.png")
        lines.append(f"x{number}.png,{'ab'[number % 2]},{row}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "table.csv"


@pytest.mark.parametrize(("one", "other"), [("1", "01"), ("1", "1.0"), ("P1", "p1"), ("a b", "a  b")])
def test_a_patient_written_in_two_ways_is_not_two(tmp_path, one, other):
    """A spreadsheet drops leading zeros, pandas adds a decimal: the split would take one patient for two."""
    with pytest.raises(DataError, match=r"column patient: 1 patient perhaps written in several ways, as .*: write"):
        read_items(table(tmp_path, "patient", [one, other, "x", "y"]))
    assert len({item.group for item in read_items(table(tmp_path, "patient", [one, "22", "x", "y"]))}) == 4


def test_file_names_that_write_a_patient_in_two_ways(tmp_path):
    for name in ("1_a", "01_a", "2_b", "3_b"):
        (tmp_path / name[-1]).mkdir(exist_ok=True)
        still(tmp_path / name[-1] / f"{name}.png")
    with pytest.raises(DataError, match="--group-from: 1 patient perhaps written in several ways, as 01 and 1"):
        read_items(tmp_path, "^([0-9]+)_")


def test_accents_are_one_character_however_they_are_stored(tmp_path):
    """macOS stores them as two: the same patient, and the mask of the same image."""
    names = [unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    groups = {item.group for item in read_items(table(tmp_path, "patient", [*names, "x", "y"]))}
    assert len(groups) == 3
    for folder, name in zip(("images", "masks"), names, strict=True):
        (tmp_path / "set" / folder).mkdir(parents=True)
        pixels = np.zeros((8, 8), np.uint8)
        pixels[2:4] = 255
        Image.fromarray(pixels).save(tmp_path / "set" / folder / f"{name}.png")
    (item,) = read_masked(tmp_path / "set")
    assert len(item.masks) == 1


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "N/A", "<NA>"])
def test_words_for_empty_are_no_patient(tmp_path, word):
    """Two unknown patients called nan would be one patient, and a known number of them."""
    with pytest.raises(DataError, match="2 of 4 rows have no patient"):
        read_items(table(tmp_path, "patient", [word, word, "x", "y"]))


def test_a_group_that_divides_a_patient_of_another_column_is_said(tmp_path):
    notes = []
    read_items(table(tmp_path, "group,patient", ["g1,P1", "g2,P1", "g3,P2", "g3,P2"]), note=notes.append)
    told = "1 of the column patient in several groups of the column group: a patient may stand on both sides"
    assert any(note.startswith(told) for note in notes)


def test_a_link_to_itself_is_named_and_not_a_crash(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        still(tmp_path / label / "x.png")
    for name, target in (("self.png", "self.png"), ("gone.png", "nowhere")):
        (tmp_path / "a" / name).symlink_to(target)
    notes = []
    assert len(read_items(tmp_path, note=notes.append)) == 4  # both claim to be images: reading them says why not
    assert len(read_inputs([tmp_path])) == 4


def test_masks_in_a_zip_are_no_frames(tmp_path):
    """As in a folder; 255 and 0 beside a gray image would be features of a frame."""
    file = tmp_path / "clip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, level in (("a.png", 100), ("a_mask.png", 255), ("__MACOSX/._a.png", 1), ("Thumbs.db", 1)):
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(tmp_path / "x.png")
            archive.write(tmp_path / "x.png", name)
    clip = read_clip(file)
    assert clip.frames.shape == (1, 8, 8) and clip.frames.max() == 100
    assert any("left out 1 mask beside their images: a_mask.png" in warning for warning in clip.warnings)


def test_a_palette_that_marks_by_transparency_alone_is_a_mask(tmp_path):
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4] = 1
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 0, 0, 0])
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image.save(tmp_path / "masks" / "a.png", transparency=bytes([0, 255]))
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "images" / "a.png")
    notes = []
    (item,) = read_masked(tmp_path, note=notes.append)
    (stored,) = stored_frames(item.masks[0])
    assert stored.values.shape == (8, 8, 4) and any("read from their transparency" in note for note in notes)


def test_frames_that_the_recorder_marked_as_invalid_are_said(tmp_path):
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 4 4 2\nElementType = MET_UCHAR\nUltrasoundImageType = BRIGHTNESS\n"
    )
    header += "Seq_Frame0000_ImageStatus = OK\nSeq_Frame0001_ImageStatus = INVALID\nElementDataFile = LOCAL\n"
    (tmp_path / "s.mha").write_bytes(header.encode() + bytes(32))
    clip = read_clip(tmp_path / "s.mha")
    assert len(clip.frames) == 2 and any("1 frame marked as INVALID" in warning for warning in clip.warnings)
