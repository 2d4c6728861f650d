"""Nothing that a DICOM header says about a person reaches an output: no field, warning, error, log or traceback."""

import logging
import random
import traceback
import warnings

import pytest

from tests.hub.clips.dicom.dicom_files import palette, region, speckle, write_dicom
from usbackbones.clips.read import ClipError, iter_frames, read_clip

# Names, ids and dates of several lengths, to be planted in fields of every kind.
SECRETS = ("DOE^JANE", "Müller^Änne", "19700131", "PAT-0017", "1.2.840.4711.1970", "Kuhstraße 7")


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def planted(path, syntax="explicit", photometric="MONOCHROME2", **elements):
    """A sound file with a secret in every element that may hold one."""
    name, uid = SECRETS[1], SECRETS[4]
    texts = {
        **dict.fromkeys(("PatientName", "ReferringPhysicianName", "OperatorsName", "PatientBirthName"), name),
        **dict.fromkeys(("PatientID", "OtherPatientNames", "AccessionNumber"), SECRETS[3]),
        **dict.fromkeys(("PatientBirthDate", "StudyDate", "ContentDate"), SECRETS[2]),
        **dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"), uid),
        **dict.fromkeys(("InstitutionName", "StudyDescription", "PatientComments", "ImageComments"), name),
        **dict.fromkeys(("PatientAddress", "ProtocolName", "SoftwareVersions", "StationName"), SECRETS[5]),
        "SpecificCharacterSet": "ISO_IR 192",
    }
    item = region((0, 0, 40, 40))
    item.RegionLocationMinX0 = 0
    elements = texts | {"SequenceOfUltrasoundRegions": [item], "FrameTime": 40} | elements
    return write_dicom(path, speckle(4), photometric, syntax, **elements)


def everything_said(path, caplog, capfd, **options):
    """All that reading a file puts out anywhere: the clip or the error with its whole chain, warnings, logs, prints."""
    said = []
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        try:
            clip = read_clip(path, **options)
            said += [repr(clip), *(repr(value) for name, value in vars(clip).items() if name != "frames")]
            list(iter_frames(path, warn=said.append))
        except ClipError as error:
            said += traceback.format_exception(error)
            link = error
            while link is not None:
                said.append(repr(link))
                link = link.__cause__ or link.__context__
    said += [str(warning.message) for warning in caught]
    said += [record.getMessage() for record in caplog.records]
    said += capfd.readouterr()
    caplog.clear()
    return "\n".join(said)


def assert_private(said):
    for secret in SECRETS:
        parts = {secret, secret.split("^")[0], repr(secret)[1:-1], secret.encode().decode("latin-1")}
        for part in parts:
            assert part not in said


def test_the_secrets_are_in_the_file_and_would_be_found(tmp_path):
    content = planted(tmp_path / "a.dcm").read_bytes()
    for secret in SECRETS[1:]:
        assert secret.encode() in content
        with pytest.raises(AssertionError):
            assert_private(f"an error about {secret}")


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated", "jpeg", "jpeg-ls", "jpeg2000", "rle"])
def test_a_sound_file_tells_pseudonyms_alone(tmp_path, caplog, capfd, syntax):
    path = planted(tmp_path / "a.dcm", syntax)
    clip = read_clip(path)
    assert clip.id_source == "PatientID, StudyInstanceUID"
    assert len(clip.patient) == len(clip.study) == 16
    assert_private(everything_said(path, caplog, capfd))


@pytest.mark.parametrize(
    ("keyword", "value", "written"),
    [
        ("PhotometricInterpretation", "MONOCHR2", b"MONOCHR2"),
        ("NumberOfFrames", 11111111, b"11111111"),
        ("FrameTime", 22222222, b"22222222"),
        ("CineRate", 33333333, b"33333333"),
        ("PixelSpacing", [44444444, 5], b"44444444"),
        ("WindowCenter", 55555555, b"55555555"),
    ],
)
def test_a_name_in_the_place_of_a_number_or_code(tmp_path, caplog, capfd, keyword, value, written):
    path = planted(tmp_path / "a.dcm", **{keyword: value, "WindowWidth": 7})
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, b"DOE^JANE"))
    assert_private(everything_said(path, caplog, capfd))


def test_a_name_in_the_place_of_the_transfer_syntax(tmp_path, caplog, capfd):
    for syntax, uid in (("explicit", b"1.2.840.10008.1.2.1\0"), ("jpeg", b"1.2.840.10008.1.2.4.50")):
        path = planted(tmp_path / "a.dcm", syntax)
        path.write_bytes(path.read_bytes().replace(uid, b"DOE^JANE".ljust(len(uid))))
        assert_private(everything_said(path, caplog, capfd))


def test_broken_copies_do_not_tell_either(tmp_path, caplog, capfd):
    """Cut short and mutated in the header, where damage makes a parser quote what it cannot understand."""
    draw = random.Random(0)
    colors = palette(speckle(1, 256, 3)[0])
    sound = [
        planted(tmp_path / "a", "explicit", "PALETTE COLOR", **colors).read_bytes(),
        planted(tmp_path / "a", "implicit", PatientID="").read_bytes(),
        planted(tmp_path / "a", "big").read_bytes(),
        planted(tmp_path / "a", "jpeg").read_bytes(),
    ]
    failed = 0
    for turn in range(160):
        content = bytearray(sound[turn % 4])
        if turn < 40:
            del content[draw.randrange(132, 2500) :]
        else:
            for _ in range(draw.choice((1, 5, 20))):
                content[draw.randrange(132, 2000)] = draw.randrange(256)
        path = tmp_path / "broken.dcm"
        path.write_bytes(content)
        said = everything_said(path, caplog, capfd)
        failed += "ClipError" in said
        assert_private(said)
    assert failed > 40
