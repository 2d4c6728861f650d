"""Every layout of every format is compared with a judge, and docs/formats.md says what came out."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.formats import table as module
from tests.hub.clips.formats import video_cells
from tests.hub.clips.formats.table import Cell, Table, verdict
from tests.hub.clips.formats.tables import COMMAND, HEAD, PAGE, TABLES
from usbackbones.clips import ClipError, read_clip
from usbackbones.clips.dicom.syntaxes import COMPRESSED, NATIVE, UNREAD
from usbackbones.clips.formats import video
from usbackbones.clips.formats.kinds import _SIGNATURES, video_containers
from usbackbones.clips.formats.layouts import LAYOUTS


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_what_is_read_is_what_the_judge_shows_and_what_the_page_says(table):
    if missing := table.missing_judge():
        pytest.skip(f"the judge of {table.title} is not installed: {missing}; pip install 'usbackbones[test]'")
    assert table.untested() == []
    assert f"\n{module.rendered(table)}" in f"\n{PAGE.read_text(encoding='utf-8')}", f"rewrite it with {COMMAND}"


def test_the_page_holds_nothing_else():
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [table.title for table in TABLES]


def test_a_layout_without_a_file_is_seen():
    stills = TABLES[0]
    with mock.patch.dict(LAYOUTS, {"PNG": ("L", "Q;3"), "JPEG 9000": ("L",)}):
        assert stills.untested() == [("PNG", "Q;3"), ("JPEG 9000", "L")]
    assert replace(stills, cells=lambda row, column: []).untested() == list(stills.layouts())


def test_a_transfer_syntax_without_a_file_is_seen():
    dicom = next(table for table in TABLES if table.title == "DICOM: transfer syntaxes and colors")
    with mock.patch.dict(COMPRESSED, {"1.2.3": "JPEG 9000"}):
        assert {row for row, _ in dicom.untested()} == {"JPEG 9000 1.2.3"}


def test_every_kind_of_file_has_its_layouts():
    forms = {form for _, _, (family, form) in _SIGNATURES if family == "image"}
    assert forms == set(LAYOUTS)
    rows = {row for table in TABLES for row, _ in table.layouts()}
    assert set(video_containers()) <= rows


def write(folder):
    Image.fromarray(np.full((4, 6), 100, np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def test_a_judge_that_differs_is_seen():
    right = np.full((1, 4, 6), 100.0)
    assert verdict("gray", [Cell(write, lambda path: right)]) == "same"
    assert verdict("gray", [Cell(write, lambda path: right + 2, 2)]) == "within 2 gray levels"
    with pytest.raises(AssertionError, match=r"gray, file 0: 2\.00 gray levels from the judge"):
        verdict("gray", [Cell(write, lambda path: right + 2, 1)])
    with pytest.raises(AssertionError, match="the judge shows"):
        verdict("gray", [Cell(write, lambda path: right.swapaxes(1, 2))])


def test_a_pixel_format_that_is_not_listed_is_refused(tmp_path, monkeypatch):
    path = video_cells._writer("ffv1", "mkv", "gray", np.zeros((2, 16, 16, 3), np.uint8))(tmp_path)
    assert read_clip(path).frames.shape == (2, 16, 16)
    monkeypatch.setattr(video, "PIXEL_FORMATS", ("yuv420p",))
    with pytest.raises(ClipError, match=r"pixels are not read here \(gray\); convert it"):
        read_clip(path)


def test_a_missing_judge_is_named():
    table = Table("a", "b", "c", "d", lambda: [], lambda row, column: [], ("cv2", "no_such_judge"))
    assert table.missing_judge() == "no_such_judge"


def test_every_transfer_syntax_that_pydicom_names_is_in_a_list():
    from pydicom.uid import UID_dictionary

    named = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert named - {*NATIVE, *COMPRESSED, *UNREAD} == set()
