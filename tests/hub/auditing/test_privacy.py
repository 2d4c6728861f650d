"""What files tell about people is counted, and no value of it is handed on."""

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.hub.auditing.sets import still
from tests.hub.clips.dicom.dicom_files import write_dicom
from usbackbones.auditing.privacy import KINDS, noticed


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
    assert noticed(tmp_path / name) == (kinds, {})


def test_text_of_images(tmp_path):
    text = PngInfo()
    text.add_text("Comment", "Jane Doe")
    Image.fromarray(still(0)).save(tmp_path / "a.png", pnginfo=text)
    exif = Image.Exif()
    exif[0x0132] = "2021:03:07 10:00:00"
    Image.fromarray(still(0)).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(still(0)).save(tmp_path / "c.jpg")
    assert [noticed(tmp_path / name)[0] for name in ("a.png", "b.jpg", "c.jpg")] == [["image text"], ["exif"], []]


def test_tags_of_videos(tmp_path):
    for name, tags in (("a.mp4", {}), ("b.mp4", {"title": "Jane Doe"})):
        with av.open(str(tmp_path / name), "w") as out:
            out.metadata.update(tags)
            stream = out.add_stream("mpeg4", rate=10)
            stream.height = stream.width = 96
            stream.pix_fmt = "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(still(0), "gray").reformat(format="yuv420p")))
            out.mux(stream.encode())
    assert noticed(tmp_path / "a.mp4")[0] == []
    assert noticed(tmp_path / "b.mp4")[0] == ["video tags"]


def test_headers_and_a_header_that_denies_the_text_on_the_screen(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="text is looked for with OpenCV")
    shown = np.zeros((300, 400), np.uint8)
    cv2.putText(shown, "DOE JANE 1961", (30, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    facts = {"PatientID": "1", "StudyDate": "20210307", "Manufacturer": "GE", "BurnedInAnnotation": "NO"}
    write_dicom(tmp_path / "a.dcm", shown[None], PatientName="Doe^Jane", **facts)
    write_dicom(tmp_path / "b.dcm", np.zeros((1, 300, 400), np.uint8), PatientName="Anonymous", **facts)
    kinds, scanner = noticed(tmp_path / "a.dcm")
    assert kinds == ["header names", "header dates", "header denies text"]
    assert scanner == {"Manufacturer": "GE"}
    assert noticed(tmp_path / "b.dcm")[0] == ["header dates"]
    assert set(kinds) <= set(KINDS)
