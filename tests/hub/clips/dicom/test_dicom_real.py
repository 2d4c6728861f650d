"""Real DICOM files, those that pydicom is tested with and installs: read as pydicom reads them, or refused by name."""

import warnings
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom.errors import InvalidDicomError

from tests.hub.clips.dicom.dicom_files import LUMA
from tests.hub.clips.dicom.test_dicom import run_without
from usbackbones.clips.read import ClipError, iter_frames, read_clip

FILES = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def by_pydicom(path):
    """Gray float [T, H, W] of 8-bit files by pydicom's own decoding and colors; None for what it cannot read."""
    try:
        dataset = pydicom.dcmread(path)
        pixels = pydicom.pixels.pixel_array(dataset)
    except (RuntimeError, ValueError, AttributeError, TypeError, InvalidDicomError):
        return None
    if pixels.dtype != np.uint8 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        return None
    gray = pixels @ LUMA if dataset.SamplesPerPixel == 3 else pixels.astype(float)
    return gray.reshape(-1, *gray.shape[-2:])


def test_what_pydicom_reads_is_read_alike():
    compared = 0
    for path in sorted(FILES.glob("*.dcm")):
        with warnings.catch_warnings(action="ignore"):
            expected = by_pydicom(path)
        try:
            frames = np.stack(list(iter_frames(path, crop=False, warn=lambda _: None)))
        except ClipError as error:
            # Of 8-bit pictures none is refused but those of a single bit.
            assert expected is None or path.name.startswith("liver"), error
            continue
        if expected is not None:
            # 422 loses colors at the edges: those beyond 0..255 are cut off by pydicom, while luma is kept as it is.
            assert np.abs(frames - expected).max() < (2 if "422" in path.name else 0.51), path.name
            compared += 1
    assert compared > 25


def test_an_ultrasound_cine_whose_header_is_of_another_size():
    """It was halved after the scanner wrote its region and scale, which are true of it no more."""
    clip = read_clip(FILES / "examples_ybr_color.dcm")
    assert clip.frames.shape == (30, 240, 320)
    assert clip.seconds_per_frame == pytest.approx(1 / 30, rel=0.01)
    assert clip.spacing_mm is None
    assert clip.color is False
    assert "1 of 1 ultrasound regions leave the picture" in clip.warnings[0]


def test_codecs_that_are_not_read_are_named():
    last = run_without("gdcm", FILES / "SC_rgb_jpeg_gdcm.dcm")
    assert "lossless JPEG" in last and "pip install python-gdcm" in last
    with pytest.raises(ClipError, match="12-bit JPEG"):
        read_clip(FILES / "JPEG-lossy.dcm")
