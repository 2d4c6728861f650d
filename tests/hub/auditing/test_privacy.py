"""What files tell about people is counted, and no value of it is handed on."""

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset

from tests.hub.auditing.sets import still
from tests.hub.clips.dicom.dicom_files import write_dicom
from usbackbones.auditing.privacy import KINDS, is_name, noticed
from usbackbones.auditing.run import audit


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("scan_2021-03-07.png", ["name with a date"]),
        ("20210307.png", ["name with a date", "name with a number"]),
        ("07.03.2021.png", ["name with a date"]),
        ("MRN 12345678.png", ["name with a number"]),
        ("frame_0012.png", []),
        ("20211399_1.png", ["name with a number"]),
    ],
)
def test_file_names(tmp_path, name, kinds):
    Image.fromarray(still(0)).save(tmp_path / name)
    assert noticed(tmp_path / name) == (kinds, {}, True)


def test_text_of_images(tmp_path):
    text = PngInfo()
    text.add_text("Comment", "Jane Doe")
    Image.fromarray(still(0)).save(tmp_path / "a.png", pnginfo=text)
    exif = Image.Exif()
    exif[0x0132] = "2021:03:07 10:00:00"
    Image.fromarray(still(0)).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(still(0)).save(tmp_path / "c.jpg")
    assert [noticed(tmp_path / name)[0] for name in ("a.png", "b.jpg", "c.jpg")] == [["image text"], ["exif"], []]


def write_tagged(file, tags):
    """A video of one frame with these tags."""
    with av.open(str(file), "w") as out:
        out.metadata.update(tags)
        stream = out.add_stream("mpeg4", rate=10)
        stream.height = stream.width = 96
        stream.pix_fmt = "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(still(0), "gray").reformat(format="yuv420p")))
        out.mux(stream.encode())


def test_tags_of_videos(tmp_path):
    for name, tags in (("a.mp4", {}), ("b.mp4", {"title": "Jane Doe"})):
        write_tagged(tmp_path / name, tags)
    assert noticed(tmp_path / "a.mp4")[0] == []
    assert noticed(tmp_path / "b.mp4")[0] == ["video tags"]


def test_headers_and_a_header_that_denies_the_text_on_the_screen(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="text is looked for with OpenCV")
    shown = np.zeros((300, 400), np.uint8)
    cv2.putText(shown, "DOE JANE 1961", (30, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    facts = {"PatientID": "1", "StudyDate": "20210307", "Manufacturer": "GE", "BurnedInAnnotation": "NO"}
    write_dicom(tmp_path / "a.dcm", shown[None], PatientName="Doe^Jane", **facts)
    write_dicom(tmp_path / "b.dcm", np.zeros((1, 300, 400), np.uint8), PatientName="Anonymous", **facts)
    kinds, scanner, _ = noticed(tmp_path / "a.dcm")
    assert kinds == ["header names", "header dates", "header denies text"]
    assert scanner == {"Manufacturer": "GE"}
    assert noticed(tmp_path / "b.dcm")[0] == ["header dates"]
    assert set(kinds) <= set(KINDS)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("20210307101500.png", ["name with a date"]),
        ("202103071015000022VAS_slice_11.png", ["name with a date"]),
        ("03-27-2021.png", ["name with a date"]),
        ("2021_03_07/a.png", ["name with a date"]),
        ("MRN1234567/a.png", ["name with a number"]),
        ("frame_123456.png", []),
    ],
)
def test_names_of_folders_count_as_the_files_own(tmp_path, name, kinds):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.fromarray(still(0)).save(tmp_path / name)
    assert noticed(tmp_path / name, tmp_path)[0] == kinds


@pytest.mark.parametrize(
    ("value", "name"),
    [("Doe^Hanna", True), ("Testa^Nadia", True), ("Anonymous", False), ("PATIENT 012", False), ("N/A", False)],
)
def test_what_may_be_a_name(value, name):
    assert is_name(value) == name


def test_names_and_dates_are_found_wherever_a_header_has_them(tmp_path, capsys):
    """In elements of any keyword, in sequences, and with a value that is against the standard."""
    inner = Dataset()
    inner.PersonName = "Roe^Richard"
    shown = still(0)[None]
    write_dicom(tmp_path / "a.dcm", shown, PatientID="1", RequestingPhysician="Who^Doctor")
    write_dicom(tmp_path / "b.dcm", shown, PatientID="1", PersonIdentificationCodeSequence=[inner])
    write_dicom(tmp_path / "c.dcm", shown, PatientID="1", AcquisitionDateTime="20210307101500")
    write_dicom(tmp_path / "d.dcm", shown, PatientID="1", PatientName="")
    found = [noticed(tmp_path / f"{name}.dcm")[0] for name in "abcd"]
    assert found == [["header names"], ["header names"], ["header dates"], []]
    assert "Roe" not in "".join(capsys.readouterr())


def test_comments_descriptions_and_xmp_of_images(tmp_path):
    picture, described = Image.fromarray(still(0)), Image.Exif()
    described[0x010E] = "Jane Doe, 1961"
    picture.save(tmp_path / "a.jpg", comment="Jane Doe")
    picture.save(tmp_path / "b.tif", tiffinfo={0x010E: "Jane Doe, 1961"})
    picture.save(tmp_path / "c.jpg", exif=described)
    picture.save(tmp_path / "d.jpg", xmp=b"<x:xmpmeta>Jane Doe</x:xmpmeta>")
    picture.save(tmp_path / "e.gif", comment=b"Jane Doe")
    picture.save(tmp_path / "f.tif")
    assert [noticed(file)[0] for file in sorted(tmp_path.iterdir())] == [["image text"]] * 5 + [[]]


def test_quicktime_tags(tmp_path):
    for name, tags in (("a.mov", {"location": "+59.3+018.0/"}), ("b.mov", {"artist": "Dr Who"}), ("c.mov", {})):
        write_tagged(tmp_path / name, tags)
    assert [noticed(file)[0] for file in sorted(tmp_path.iterdir())] == [["video tags"], ["video tags"], []]


def test_a_file_that_cannot_be_looked_into_is_told(tmp_path):
    np.save(tmp_path / "a.npy", still(0)[None])
    assert noticed(tmp_path / "a.npy") == ([], {}, False)


def test_no_value_of_a_planted_identity_is_in_any_output(tmp_path):
    """Names, dates, places and numbers in every kind of header; the names of files stand in the tables alone."""
    secret = ["Janedoe", "Whodoctor", "19610412", "Lakeside"]
    folder = tmp_path / "set"
    folder.mkdir()
    facts = {
        "PatientID": "Janedoe-7",
        "StudyDate": "19610412",
        "InstitutionName": "Lakeside",
        "StationName": "Lakeside2",
    }
    write_dicom(folder / "a.dcm", still(0)[None], PatientName="Janedoe", ReferringPhysicianName="Whodoctor", **facts)
    text = PngInfo()
    text.add_text("Comment", "Janedoe Lakeside")
    Image.fromarray(still(1)).save(folder / "b.png", pnginfo=text)
    exif = Image.Exif()
    exif[0x013B] = "Whodoctor"
    Image.fromarray(still(2)).save(folder / "Janedoe 19610412.jpg", exif=exif)
    (folder / "Janedoe 19610412.docx").write_text("passed over")
    notes = []
    places = {"out": tmp_path / "audit", "junit": tmp_path / "j.xml"}
    done = audit(folder, **places, group_from="^(.)", unlabelled=True, progress=False, note=notes.append)
    assert {key for key, count in done.privacy.items() if count} == {
        *("header names", "header dates", "exif", "image text", "name with a date", "name with a number")
    }
    for file in (tmp_path / "j.xml", *(tmp_path / "audit" / name for name in ("audit.json", "report.html"))):
        assert not [word for word in secret if word in file.read_text()], file
    table = (tmp_path / "audit" / "files.csv").read_text().replace("Janedoe 19610412.jpg", "")
    assert not [word for word in secret if word in table]
