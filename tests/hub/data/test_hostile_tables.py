"""Tables and trees as people have them: patients written in several ways, words for empty, accents, circular links."""

import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.dicom.dicom_files import write_dicom
from usbackbones.clips.read import read_clip
from usbackbones.clips.stored import stored_frames
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError, Item
from usbackbones.data.leakage import told
from usbackbones.data.patients import unit
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


@pytest.mark.parametrize("column", ["Split", "SPLIT", " split "])
def test_a_split_in_other_capitals_is_the_split(tmp_path, column):
    """Passed over, the parts would be drawn again without a word."""
    items = read_items(table(tmp_path, column, ["train", "train", "test", "test"]))
    assert [item.part for item in items] == ["train", "train", "test", "test"]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="has the column patient 2 times: keep one"):
        read_items(table(tmp_path, "patient,patient", ["p,q"] * 4))


@pytest.mark.parametrize("column", ["PATIENTID", "patientid", "SUBJECTID"])
def test_patients_in_a_column_of_other_capitals(tmp_path, column):
    assert len({item.group for item in read_items(table(tmp_path, column, ["p", "p", "q", "r"]))}) == 3


def test_columns_that_say_nothing_to_us_are_named(tmp_path):
    notes = []
    read_items(table(tmp_path, "case_id,patient,age", ["c1,p1,3", "c1,p2,4"]), note=notes.append)
    assert notes[0] == "2 columns not taken for a path, label, split or patient: case_id, age"


def test_classes_that_differ_in_capitals_alone_are_refused(tmp_path):
    for name in ("Benign", "benign ", "malignant"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        still(tmp_path / "tree" / name / "x.png")
    with pytest.raises(DataError, match="classes 'Benign' and 'benign ' are perhaps one, written in 2 ways"):
        read_items(tmp_path / "tree")


def test_a_folder_and_a_frame_of_it_are_not_two_items(tmp_path):
    """As two patients they would stand on both sides of the split."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        still(tmp_path / name / "x.png")
    (tmp_path / "t.csv").write_text("path,label,patient\na,one,p\nb,two,q\na/x.png,one,r\n")
    with pytest.raises(DataError, match=r"x\.png is a frame of .*a, which is a row too: keep one of the two"):
        read_items(tmp_path / "t.csv")


def test_folders_of_stills_in_a_class_are_counted_as_clips(tmp_path):
    for name in ("a", "b/p1", "b/p2"):
        (tmp_path / name).mkdir(parents=True)
        still(tmp_path / name / "x.png")
    notes = []
    assert len(read_items(tmp_path, note=notes.append)) == 3
    assert notes[0] == "2 folders of stills in class folders, each taken for one clip: b/p1, b/p2"


def test_near_duplicates_under_two_labels_are_told(tmp_path):
    items = [Item(tmp_path / f"{name}.png", label, name) for name, label in (("x", "a"), ("y", "b"), ("z", "a"))]
    assert told(items, [(0, 1), (0, 2)]).endswith("; 1 with different labels: x.png = y.png")
    assert "labels" not in told(items, [(0, 2)]) + told(items, [(0, 1)], labelled=False)


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (["P1", "p1", "P2", "P3"], r"1 patient perhaps in several ways .*, as 0\.dcm and 1\.dcm do"),
        (["1", "2", "01", "3"], r"1 patient perhaps in several ways .*, as 0\.dcm and 2\.dcm do"),
        (["None", "nan", "P2", "P3"], "2 of 4 files name their patient in a DICOM header and 2 do not"),
    ],
)
def test_dicom_headers_that_write_a_patient_in_two_ways(tmp_path, ids, fault):
    """As in a column; the ids themselves are nowhere shown."""
    with pytest.raises(DataError, match=fault) as caught:
        read_items(headers(tmp_path, PatientID=ids))
    assert "P1" not in str(caught.value).replace(str(tmp_path), "")


def test_studies_keep_files_together_where_no_header_names_a_patient(tmp_path):
    notes = []
    items = read_items(headers(tmp_path, StudyInstanceUID=["1.2", "1.2", "1.3", "1.4"]), note=notes.append)
    assert len({item.group for item in items}) == 3 and unit(items) == "group"
    assert notes == ["3 groups, by the study in the DICOM header"]
    items = read_items(headers(tmp_path / "p", StudyInstanceUID=["1", "1", "2", "3"], PatientID=["p", "q", "q", "r"]))
    assert len({item.group for item in items}) == 3 and unit(items) == "patient"


def headers(folder, **elements):
    """Two classes of DICOM stills with a value of each element each."""
    for number, values in enumerate(zip(*elements.values(), strict=True)):
        file = folder / "ab"[number % 2] / f"{number}.dcm"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(file, np.full((1, 8, 10), number, np.uint8), **dict(zip(elements, values, strict=True)))
    return folder
