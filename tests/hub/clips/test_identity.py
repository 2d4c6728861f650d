"""Pseudonyms of patients and studies, and the salt that they are made with."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.clips.dicom.dicom_files import speckle, write_dicom
from usbackbones.clips import ClipError, iter_frames, read_clip
from usbackbones.clips.dicom.identity import pseudonym, salt_file
from usbackbones.clips.patient import patient_of

PACKAGE = Path(__file__).resolve().parents[3] / "usbackbones"


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def ids(tmp_path, **elements):
    return read_clip(write_dicom(tmp_path / "a.dcm", speckle(1), **elements), salt="another salt")


def test_pseudonyms_group_patients_and_name_none(tmp_path):
    first = ids(tmp_path, PatientID="A17", StudyInstanceUID="1.2.3", PatientName="Doe^Jane")
    assert len(first.patient) == len(first.study) == 16
    assert set(first.patient) <= set("0123456789abcdef")
    assert first.id_source == "PatientID, StudyInstanceUID"
    assert first.patient == pseudonym("patient", "A17", "another salt")
    assert ids(tmp_path, PatientID="A17 ", PatientName="Doe^J").patient == first.patient
    assert ids(tmp_path, PatientID="A18").patient != first.patient
    assert ids(tmp_path, PatientID="1.2.3").patient != first.study
    path = write_dicom(tmp_path / "a.dcm", speckle(1), PatientID="A17")
    assert read_clip(path).patient != first.patient  # the salt of the environment
    assert read_clip(path).study is None


def test_name_and_birth_date_stand_in_for_a_missing_id(tmp_path):
    whose = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101"}
    clip = ids(tmp_path, **whose)
    assert clip.id_source == "PatientName and PatientBirthDate"
    assert ids(tmp_path, **whose | {"PatientBirthDate": "19700102"}).patient != clip.patient
    assert ids(tmp_path, PatientName="Doe^Jane").patient is None
    nobody = ids(tmp_path, PatientID="")
    assert (nobody.patient, nobody.study, nobody.id_source) == (None, None, None)


def test_the_users_own_salt_is_drawn_once_and_kept_private(tmp_path, monkeypatch):
    monkeypatch.delenv("USBACKBONES_SALT")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    list(iter_frames(write_dicom(tmp_path / "a.dcm", speckle(1), PatientID="A17")))
    assert not salt_file().exists()  # frames need no pseudonym
    first = read_clip(tmp_path / "a.dcm").patient
    assert read_clip(tmp_path / "a.dcm").patient == first
    assert [entry.name for entry in salt_file().parent.iterdir()] == ["salt"]
    assert stat.S_IMODE(salt_file().stat().st_mode) == 0o600
    assert len(salt_file().read_text()) == 64
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert read_clip(tmp_path / "a.dcm").patient != first


def test_processes_that_draw_a_salt_at_once_agree(tmp_path):
    code = "from usbackbones.clips.dicom.identity import find_salt; print(find_salt(None))"
    code = (
        "import sys, types; sys.modules['usbackbones'] = p = types.ModuleType('p'); p.__path__ = [sys.argv[1]]\n" + code
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    environment.pop("USBACKBONES_SALT")
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(PACKAGE)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert len({run.communicate()[0].strip() for run in runs}) == 1
    assert [entry.name for entry in (tmp_path / "usbackbones").iterdir()] == ["salt"]


def test_a_salt_that_cannot_be_used(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", speckle(1), PatientID="A17")
    with pytest.raises(ValueError, match="5 characters can be guessed; give at least 8"):
        read_clip(path, salt="short")
    monkeypatch.delenv("USBACKBONES_SALT")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    clip = read_clip(path)
    assert clip.patient is None
    assert "set USBACKBONES_SALT" in clip.warnings[0]


def test_a_salt_of_the_environment_that_is_too_short_is_one_line_about_it(tmp_path, monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "short")
    path = write_dicom(tmp_path / "a.dcm", speckle(1), PatientID="P1")
    for read in (read_clip, patient_of):
        with pytest.raises(
            ClipError, match=r"^\$USBACKBONES_SALT: a salt of 5 characters can be guessed; give"
        ) as error:
            read(path)
        assert "\n" not in str(error.value)
