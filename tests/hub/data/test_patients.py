"""Who tells patients apart, and that nobody claims to where nobody does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.dicom.dicom_files import write_dicom
from tests.hub.data.test_dataset import still
from usbackbones.cli import main as cli
from usbackbones.clips.patient import patient_of
from usbackbones.clips.read import read_clip
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import told_patients, unit


def write_still(file: Path, patient: str, level: int) -> None:
    """A DICOM still of one gray level, of a patient."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(file, np.full((1, 8, 10), level, np.uint8), PatientID=patient)


@pytest.fixture
def headers(tmp_path):
    """Two classes of six patients each, two DICOM stills of a patient."""
    for number in range(24):
        label = "ab"[number % 2]
        write_still(tmp_path / "data" / label / f"IM{number:03d}.dcm", patient=f"PAT{number % 12:02d}", level=number)
    return tmp_path / "data"


def read(data, group_from=""):
    notes = []
    return read_items(Path(data), group_from, notes.append), notes


def test_dicom_headers_keep_patients_together(headers):
    items, notes = read(headers)
    assert "12 patients, by the DICOM header" in notes
    assert unit(items) == "patient" and len({item.group for item in items}) == 12
    assert {item.group for item in items} == {read_clip(item.path).patient for item in items}
    sides = {}
    for item in split_items(items):
        assert sides.setdefault(item.group, item.part) == item.part
    assert patient_of(headers / "a" / "IM000.dcm") == patient_of(headers / "a" / "IM012.dcm") is not None


def test_headers_that_tell_half_are_refused(headers):
    still(headers / "a" / "x.png")
    with pytest.raises(DataError, match=r"24 of 25 files name their patient .* 1 do not, as x\.png: give"):
        read(headers)
    (headers / "a" / "x.png").unlink()
    for number, file in enumerate(sorted(headers.rglob("*.dcm"))):
        write_still(file, patient="ANON", level=number)
    with pytest.raises(DataError, match="all 24 DICOM headers name the same patient"):
        read(headers)


def test_a_broken_dicom_file_does_not_hide_the_others(headers):
    (headers / "a" / "IM999.dcm").write_bytes((headers / "a" / "IM000.dcm").read_bytes()[:140])
    items, _ = read(headers)
    assert len(items) == 25 and {item.told_by for item in items} == {"the DICOM header"}


def test_groups_that_divide_a_patient_of_the_headers_are_told(headers):
    items, notes = read(headers, "^(IM[0-9]+)")
    assert "24 groups, by file names" in notes and unit(items) == "group"
    assert any(line.startswith("12 patients of the DICOM headers with files in several groups") for line in notes)


@pytest.mark.parametrize(
    ("column", "what"),
    [("group", "group"), ("patient", "patient"), ("patient_id", "patient"), ("PatientID", "patient"),
     ("Patient ID", "patient"), ("subject", "patient"), ("subject_id", "patient"), ("SubjectID", "patient")],
)  # fmt: skip
def test_columns_that_tell_patients(tmp_path, column, what):
    rows = [f"path,label,{column}"]
    for number in range(12):
        still(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number // 2}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    items, notes = read(tmp_path / "t.csv")
    assert notes == [f"6 {what}s, by the column {column}"] and unit(items) == what
    rows[3] = rows[3].rsplit(",", 1)[0] + ", "
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=rf"1 of 12 rows have no {column}: fill the column for all, or for none"):
        read(tmp_path / "t.csv")


def test_one_column_of_several_is_said(tmp_path):
    for number in range(4):
        still(tmp_path / f"{number}.png")
    lines = [f"{number}.png,{'ab'[number % 2]},s{number},g{number % 2}" for number in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,subject,group", *lines]))
    items, notes = read(tmp_path / "t.csv", "^([0-9])")
    assert [item.group for item in items] == ["g0", "g1", "g0", "g1"]
    assert notes[0] == "patients are told by the column group; subject passed over"
    assert notes[1] == "--group-from is not used: groups are told by the column group"


def test_where_nobody_knows_nobody_claims(tmp_path):
    for label in "ab":
        still(tmp_path / label / "x.png")
    items, notes = read(tmp_path)
    assert unit(items) == "" and notes == [told_patients(items)]
    assert notes[0].startswith("nothing tells patients apart, so every file counts as a patient of its own (2 files)")
    assert unit([]) == "" and unit([Item(Path("a"), "x", "1", told_by="the column subject")]) == "patient"


@pytest.mark.parametrize("command", ["finetune", "probe", "segment"])
def test_without_a_salt_nobody_pretends_that_headers_tell_nothing(headers, tmp_path, monkeypatch, capsys, command):
    """A short one, and a home that cannot keep one, are a line and not files that count as patients."""
    for file in headers.rglob("*.dcm"):
        Image.fromarray(np.zeros((8, 10), np.uint8)).save(file.with_name(f"{file.stem}_mask.png"))
    (tmp_path / "file").touch()
    for salt, home, told in (
        ("abc", tmp_path, "$USBACKBONES_SALT: a salt of 3 characters can be guessed"),
        ("", tmp_path / "file", "no pseudonyms, the file of the salt can be neither read nor made; set"),
    ):
        monkeypatch.setenv("USBACKBONES_SALT", salt)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
        with pytest.raises(SystemExit, match="2"):
            cli.main([command, str(headers), "-o", str(tmp_path / "out"), "--model", "random:test_resnet"])
        err = capsys.readouterr().err
        assert told in err.splitlines()[-1] and "Traceback" not in err and not (tmp_path / "out").exists()
