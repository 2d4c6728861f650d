"""DICOM: what the header says besides the pixels: range of gray, regions, spacing, times, color."""

import numpy as np
import pytest

from tests.hub.clips.dicom.dicom_files import doppler, palette, region, speckle, write_dicom
from usbackbones.clips.read import ClipError, iter_frames, read_clip


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def deep(stored, signed=False):
    """Every value of a 12- or 16-bit range, in two frames."""
    low = -(1 << (stored - 1)) if signed else 0
    values = np.arange(low, low + (1 << stored)).reshape(2, 32, -1)
    return values.astype(np.int16 if signed else np.uint16)


def windowed(value, center, width):
    """PS3.3 C.11.2.1.2.1 as it stands there, for an output of 0..255."""
    if value <= center - 0.5 - (width - 1) / 2:
        return 0.0
    if value > center - 0.5 + (width - 1) / 2:
        return 255.0
    return ((value - (center - 0.5)) / (width - 1) + 0.5) * 255


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "jpeg-ls", "jpeg2000", "rle"])
@pytest.mark.parametrize("stored", [12, 16])
def test_deep_pixels_take_the_range_of_their_bits(tmp_path, stored, syntax):
    values = deep(stored)
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values, syntax=syntax, BitsStored=stored))
    assert np.array_equal(clip.frames, values >> (stored - 8))
    inverted = read_clip(write_dicom(tmp_path / "a.dcm", values, "MONOCHROME1", syntax, BitsStored=stored))
    assert np.array_equal(inverted.frames, 255 - (values >> (stored - 8)))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("center", "width"), [(300, 700), (2048, 1), (40.5, 400), (1000, 100_000)])
def test_a_window_is_what_the_standard_says(tmp_path, center, width, signed):
    values = deep(12, signed)
    window = {"WindowCenter": [center, 7], "WindowWidth": [width, 9], "RescaleSlope": 2, "RescaleIntercept": -100}
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values, BitsStored=12, **window))
    expected = [windowed(float(value) * 2 - 100, center, width) for value in values.ravel()]
    assert np.abs(clip.frames.ravel() - np.array(expected)).max() <= 1


def test_without_a_window_the_smallest_and_largest_value_are_the_range(tmp_path):
    values = np.clip(deep(12), 100, 900)
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values, SmallestImagePixelValue=100, LargestImagePixelValue=900))
    assert np.abs(clip.frames - (values - 100.0) / 800 * 255).max() <= 1


def test_the_gray_of_a_frame_does_not_hang_on_how_many_are_read(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", deep(16))
    assert np.array_equal(read_clip(path, max_frames=1).frames[0], read_clip(path).frames[0])


def test_bits_that_do_not_count_are_cut_off(tmp_path):
    values = deep(12)
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values | 0xF000, BitsStored=12))
    assert np.array_equal(clip.frames, values >> 4)


def test_deep_color(tmp_path):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", doppler().astype(np.uint16) * 257, "RGB"))
    assert np.array_equal(clip.frames, read_clip(write_dicom(tmp_path / "b.dcm", doppler(), "RGB")).frames)


def test_the_b_mode_region_is_cut_out_and_gives_the_spacing(tmp_path):
    """The screen also holds a strip of M-mode and a smaller B-mode picture inside the large one."""
    regions = [
        region((50, 0, 63, 79), spatial=2),
        region((4, 10, 43, 69)),
        region((6, 12, 20, 30), delta=(1, 1)),
    ]
    path = write_dicom(tmp_path / "a.dcm", speckle(), SequenceOfUltrasoundRegions=regions, PixelSpacing=[9, 9])
    clip = read_clip(path)
    assert np.array_equal(clip.frames, speckle()[:, 4:44, 10:70])
    assert clip.spacing_mm == pytest.approx((0.2, 0.3))
    assert len(clip.warnings) == 1
    assert "also holds M-mode" in clip.warnings[0]
    whole = read_clip(path, crop=False)
    assert np.array_equal(whole.frames, speckle())
    assert whole.spacing_mm == clip.spacing_mm
    assert np.array_equal(np.stack(list(iter_frames(path, warn=lambda _: None))), clip.frames)
    assert np.array_equal(np.stack(list(iter_frames(path, crop=False, warn=lambda _: None))), whole.frames)


def test_two_pictures_side_by_side_are_told(tmp_path):
    regions = [region((0, 0, 63, 30)), region((0, 31, 63, 79))]
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), SequenceOfUltrasoundRegions=regions))
    assert np.array_equal(clip.frames, speckle()[:, :, 31:])
    assert "2 B-mode regions; the largest was taken" in clip.warnings[0]


@pytest.mark.parametrize(
    "wrong",
    [
        region((0, 0, 63, 200)),
        region((40, 0, 20, 79)),
        region((10, 10, 10, 10)),
        region((0, 2**32 - 5, 20, 20)),  # a negative number, kept without its sign
    ],
)
def test_a_region_outside_of_the_picture_is_not_believed(tmp_path, wrong):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), SequenceOfUltrasoundRegions=[wrong]))
    assert np.array_equal(clip.frames, speckle())
    assert "1 of 1 ultrasound regions leave the picture" in clip.warnings[0]
    assert clip.spacing_mm is None


@pytest.mark.parametrize(
    ("item", "spacing"),
    [
        (region(delta=(-0.02, 0.03)), (0.2, 0.3)),
        (region(units=4), None),  # seconds
        (region(delta=(0, 0.03)), None),
        (region(delta=(float("nan"), 0.03)), None),
        (region(delta=(50, 0.03)), None),
    ],
)
def test_spacing_is_believed_where_it_can_be(tmp_path, item, spacing):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), SequenceOfUltrasoundRegions=[item]))
    assert clip.spacing_mm == (spacing and pytest.approx(spacing))
    assert bool(clip.warnings) is (spacing is None)


def test_pixel_spacing_where_no_region_has_one(tmp_path):
    assert read_clip(write_dicom(tmp_path / "a.dcm", speckle(), PixelSpacing=[0.5, 0.25])).spacing_mm == (0.5, 0.25)
    assert read_clip(write_dicom(tmp_path / "a.dcm", speckle(), PixelSpacing=[0, 0.25])).spacing_mm is None
    assert read_clip(write_dicom(tmp_path / "a.dcm", speckle())).spacing_mm is None


@pytest.mark.parametrize(
    ("elements", "seconds"),
    [
        ({"FrameTime": 40}, 0.04),
        ({"FrameTime": 40, "CineRate": 25}, 0.04),
        ({"FrameTimeVector": [0, 30, 30, 30, 30]}, 0.03),
        ({"CineRate": 50}, 0.02),
        ({"RecommendedDisplayFrameRate": 20}, 0.05),
        ({"FrameTime": 0, "CineRate": 50}, 0.02),
        ({"FrameTime": -3}, None),
        ({"FrameTimeVector": [0, 30]}, None),  # too short for five frames
        ({}, None),
    ],
)
def test_frame_times(tmp_path, elements, seconds):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), **elements))
    assert clip.seconds_per_frame == (seconds and pytest.approx(seconds))
    assert clip.warnings == ()


def test_frame_times_that_disagree_are_told(tmp_path):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), FrameTime=40, CineRate=60))
    assert clip.seconds_per_frame == pytest.approx(0.04)
    assert "40 ms a frame and 60 frames a second" in clip.warnings[0]


def test_color_doppler_is_told(tmp_path):
    flow = [region(), region((16, 16, 47, 63), data=2)]
    by_header = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), SequenceOfUltrasoundRegions=flow))
    assert by_header.color is True
    assert "a region of color flow" in by_header.warnings[0]
    assert by_header.frames.shape == (5, 64, 80)
    late = np.repeat(speckle()[..., None], 3, -1)
    late[3:] = doppler()[3:]
    path = write_dicom(tmp_path / "a.dcm", late, "RGB")
    assert read_clip(path).color is True
    assert read_clip(path, max_frames=3).color is False


def test_a_tint_or_a_colored_mark_is_no_doppler(tmp_path):
    tinted = (speckle()[..., None] * np.array([1, 0.88, 0.72])).astype(np.uint8)
    assert read_clip(write_dicom(tmp_path / "a.dcm", tinted, "RGB")).color is False
    marked = np.repeat(speckle()[..., None], 3, -1)
    marked[:, :4, :5] = (0, 255, 0)
    assert read_clip(write_dicom(tmp_path / "a.dcm", marked, "RGB")).color is False
    beside = np.repeat(speckle()[..., None], 3, -1)
    beside[:, :, 70:] = (0, 255, 0)  # the scanner's own buttons
    path = write_dicom(tmp_path / "a.dcm", beside, "RGB", SequenceOfUltrasoundRegions=[region((0, 0, 63, 69))])
    assert read_clip(path).color is False
    assert read_clip(path, crop=False).color is False
    gray = palette(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1))
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), "PALETTE COLOR", **gray))
    assert clip.color is False
    assert np.array_equal(clip.frames, speckle())


def test_a_palette_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ClipError, match="palette is missing or damaged; export it again"):
        read_clip(write_dicom(tmp_path / "a.dcm", speckle(), "PALETTE COLOR"))
