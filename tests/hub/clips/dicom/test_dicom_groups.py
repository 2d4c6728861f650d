"""DICOM of many frames whose window, rescaling and pixel size are kept by frame, or that tell no window at all."""

import copy

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from tests.hub.clips.dicom.dicom_files import LUMA, palette, write_dicom
from usbackbones.clips.read import read_clip

SHARED, BY_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
MACROS = {
    "window": ("FrameVOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    "rescale": ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleSlope", "RescaleType"),
    "spacing": ("PixelMeasuresSequence", "PixelSpacing"),
}


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def group(**values):
    """An item of a sequence of functional groups, of values by the name of their macro."""
    item = Dataset()
    for name, numbers in values.items():
        macro, *keywords = MACROS[name]
        inner = Dataset()
        for keyword, number in zip(keywords, numbers, strict=False):
            setattr(inner, keyword, number)
        setattr(item, macro, [inner])
    return item


def values_of(frames, signed=False):
    """Values of 12 bits within 16, another ramp in each frame, [T, 16, 20]."""
    ramp = np.linspace(0, 4095, frames * 320).reshape(frames, 16, 20).round()
    return (ramp - 2048).astype(np.int16) if signed else ramp.astype(np.uint16)


def by_pydicom(path):
    """Gray of each frame by pydicom alone: a data set for each that holds the frame's macros, or the shared ones."""
    dataset = pydicom.dcmread(path)
    shown = []
    for index, stored in enumerate(pixel_array(dataset)):
        single = copy.deepcopy(dataset)
        for keyword, place in ((SHARED, 0), (BY_FRAME, index)):
            for macro in dataset[keyword][place] if keyword in dataset else ():
                single.update(macro.value[0])
        values = apply_voi_lut(apply_modality_lut(stored, single), single)
        # pydicom maps a window to what the least and the greatest stored value are after rescaling.
        low, high = (-32768, 32767) if dataset.PixelRepresentation else (0, 65535)
        ends = np.sort(np.array([low, high]) * float(single.RescaleSlope) + float(single.RescaleIntercept))
        shown.append((values - ends[0]) / (ends[1] - ends[0]) * 255)
    return np.stack(shown)


WINDOW, RESCALE = (600, 900, "LINEAR"), (-100, 0.5, "US")
CASES = {
    "all shared": (group(window=WINDOW, rescale=RESCALE), [group(), group(), group()]),
    "all by frame": (
        None,
        [
            group(window=(300, 500, "LINEAR"), rescale=(-50, 1, "US")),
            group(window=(900, 700, "SIGMOID"), rescale=(-100, 0.5, "US")),
            group(window=(3000, 2000.5, "LINEAR_EXACT"), rescale=(10, 2, "US")),
        ],
    ),
    "rescale shared, windows by frame": (
        group(rescale=RESCALE),
        [group(window=(200, 300)), group(window=(200, 300)), group(window=(1600, 600))],
    ),
    "windows shared, rescale by frame": (
        group(window=WINDOW),
        [group(rescale=(0, slope, "US")) for slope in (0.25, 0.5, 0.4)],
    ),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "rle"])
@pytest.mark.parametrize("case", CASES)
def test_each_frame_has_its_own_window_and_rescaling(tmp_path, case, syntax, signed):
    shared, frames = copy.deepcopy(CASES[case])
    groups = {BY_FRAME: frames} | ({SHARED: [shared]} if shared else {})
    path = write_dicom(tmp_path / "a.dcm", values_of(3, signed), syntax=syntax, **groups)
    clip, expected = read_clip(path), by_pydicom(path)
    assert np.ptp(expected) > 100
    assert np.abs(clip.frames - expected).max() <= 1
    assert clip.warnings == ()
    assert np.array_equal(read_clip(path, stride=2).frames, clip.frames[::2])


def test_a_group_takes_the_place_of_the_headers_own_window_whole(tmp_path):
    window = {"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "SIGMOID"}
    groups = {SHARED: [group(window=(1000, 2000))]}
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values_of(2), **window, **groups))
    alone = read_clip(write_dicom(tmp_path / "b.dcm", values_of(2), WindowCenter=1000, WindowWidth=2000))
    assert np.array_equal(clip.frames, alone.frames)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_a_table_by_frame(tmp_path, syntax):
    """The lookup table of one frame is the inverse of the other's."""
    order = ">u2" if syntax == "big" else "<u2"
    frames = []
    for curve in (np.arange(4096) * 16, 65535 - np.arange(4096) * 16):
        item, table = group(window=()), Dataset()
        table.LUTDescriptor, table.LUTData = [4096, 0, 16], curve.astype(order).tobytes()
        table["LUTData"].VR = "OW"
        item.FrameVOILUTSequence[0].VOILUTSequence = [table]
        frames.append(item)
    path = write_dicom(tmp_path / "a.dcm", values_of(2), syntax=syntax, **{BY_FRAME: frames})
    shown = values_of(2) * 16 / 65535 * 255
    shown[1] = 255 - shown[1]
    assert np.abs(read_clip(path).frames - shown).max() <= 1


@pytest.mark.parametrize(
    ("shared", "frames", "spacing"),
    [
        ([0.2, 0.3], [None, None], (0.2, 0.3)),
        (None, [[0.2, 0.3], [0.2, 0.3]], (0.2, 0.3)),
        ([0.5, 0.5], [[0.2, 0.3], [0.2, 0.3]], (0.2, 0.3)),
        (None, [[0.2, 0.3], [0.2, 0.4]], None),
        ([0.2, 0.3], [None, [0.2, 0.4]], None),
        (None, [[0.2, 0.3], None], None),
    ],
)
def test_the_size_of_a_pixel_is_known_where_all_frames_have_one(tmp_path, shared, frames, spacing):
    items = [group(spacing=[each]) if each else group() for each in frames]
    groups = {BY_FRAME: items} | ({SHARED: [group(spacing=[shared])]} if shared else {})
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values_of(2).astype(np.uint8), **groups), max_frames=1)
    assert clip.spacing_mm == spacing
    assert [*clip.warnings] == [line for line in clip.warnings if spacing is None and "differs between frames" in line]
    assert bool(clip.warnings) == (spacing is None)


def test_fewer_groups_than_frames_are_told(tmp_path):
    groups = {
        SHARED: [group(window=(2000, 4000), spacing=[[0.5, 0.5]])],
        BY_FRAME: [group(window=(500, 900), spacing=[[0.2, 0.2]])],
    }
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values_of(2), **groups))
    assert "1 frames have functional groups, 2 are promised" in clip.warnings[0]
    alone = read_clip(write_dicom(tmp_path / "b.dcm", values_of(2), WindowCenter=2000, WindowWidth=4000))
    assert np.array_equal(clip.frames[1], alone.frames[1])
    assert clip.spacing_mm is None


def test_big_endian_palettes_are_turned_once(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    elements = palette(colors) | {BY_FRAME: [group(), *(group(window=(value, 2)) for value in (1, 2))]}
    for name, column in zip(("Red", "Green", "Blue"), colors.T, strict=True):
        elements[f"{name}PaletteColorLookupTableData"] = (column.astype(">u2") << 8).astype(">u2").tobytes()
    stored = np.arange(768).reshape(3, 16, 16).astype(np.uint8)
    clip = read_clip(write_dicom(tmp_path / "a.dcm", stored, "PALETTE COLOR", "big", **elements))
    assert np.abs(clip.frames.reshape(3, 256) - colors @ LUMA).max() < 0.51


@pytest.mark.parametrize(
    ("low", "high", "signed", "told"),
    [
        (0, 255, False, "from 0 to 255 of 0 to 65535, so that they come out as gray 0 to 0 of 255"),
        (0, 1023, False, "from 0 to 1023 of 0 to 65535, so that they come out as gray 0 to 3 of 255"),
        (0, 4095, False, "from 0 to 4095 of 0 to 65535, so that they come out as gray 0 to 15 of 255"),
        (-500, 500, True, "from -500 to 500 of -32768 to 32767, so that they come out as gray 126 to 129 of 255"),
        (0, 8192, False, None),
        (0, 0, False, None),
    ],
)
def test_values_that_leave_most_of_their_range_unused_are_told(tmp_path, low, high, signed, told):
    values = np.linspace(low, high, 640).round().astype(np.int16 if signed else np.uint16).reshape(2, 16, 20)
    values[:, 0, 0], values[:, 0, 1] = low, high
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values))
    assert len(clip.warnings) == bool(told)
    if told:
        assert "no window in its header" in clip.warnings[0] and told in clip.warnings[0]
    for window in ({"WindowCenter": 100, "WindowWidth": 200}, {SHARED: [group(window=(100, 200))]}):
        assert read_clip(write_dicom(tmp_path / "b.dcm", values, **window)).warnings == ()


def test_groups_that_hold_names_or_nonsense_are_passed_over_in_silence(tmp_path, recwarn):
    """Nothing of a damaged group is quoted, and its frame is shown as one without it."""
    item = group(window=(300, 500))
    item.FrameVOILUTSequence[0].add_new("WindowCenter", "LO", "DOE^JANE")
    groups = {SHARED: [group(spacing=[[0.2, 0.3]])], BY_FRAME: [item, group()]}
    clip = read_clip(write_dicom(tmp_path / "a.dcm", values_of(2), **groups))
    assert np.array_equal(clip.frames, values_of(2) >> 8)
    assert clip.spacing_mm == (0.2, 0.3)
    assert "DOE" not in repr(clip) and not recwarn.list
