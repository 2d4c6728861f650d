"""DICOM that few writers make: retired colors, odd widths, palettes and bits in odd places, holes, unread syntaxes."""

import re
import zlib

import numpy as np
import pytest

from tests.hub.clips.dicom.dicom_files import LUMA, SYNTAXES, doppler, jpeg, palette, speckle, to_ybr, write_dicom
from usbackbones.clips import ClipError, read_clip


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big", "deflated"])
def test_retired_partial_range_is_stretched_to_the_full_one(tmp_path, syntax):
    full = to_ybr(doppler()).astype(float)
    partial = np.round((full - [0, 128, 128]) * np.array([219, 224, 224]) / 255 + [16, 128, 128]).astype(np.uint8)
    clip = read_clip(write_dicom(tmp_path / "a.dcm", partial, "YBR_PARTIAL_422", syntax))
    assert np.abs(clip.frames - doppler() @ LUMA).max() <= 1.1 and clip.warnings != () and clip.color
    assert all("color Doppler" in warning for warning in clip.warnings)
    ends = np.full((2, 2, 2, 3), 128, np.uint8)
    ends[0, ..., 0], ends[1, ..., 0] = 16, 235
    clip = read_clip(write_dicom(tmp_path / "b.dcm", ends, "YBR_PARTIAL_422", syntax))
    assert clip.frames[0].max() == 0 and clip.frames[1].min() == 255


def test_partial_420_is_refused_uncompressed_and_read_as_jpeg(tmp_path):
    with pytest.raises(ClipError, match="YBR_PARTIAL_420"):
        read_clip(write_dicom(tmp_path / "a.dcm", to_ybr(doppler()), "YBR_PARTIAL_420"))
    fragments = [jpeg(frame) for frame in doppler()]
    path = write_dicom(tmp_path / "b.dcm", doppler(), "YBR_PARTIAL_420", "jpeg", fragments=fragments)
    assert np.abs(read_clip(path).frames - doppler() @ LUMA).mean() < 2


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_PARTIAL_422"])
@pytest.mark.parametrize("flat", [False, True])
def test_thinned_chroma_of_odd_width(tmp_path, photometric, flat):
    """A column is added, or pairs go on into the next row: the length says which."""
    frames, rows, columns = 3, 6, 7
    luma = np.random.default_rng(0).integers(16, 236, (frames, rows, columns), dtype=np.uint8)
    lines = luma.reshape(frames, -1) if flat else np.pad(luma, ((0, 0), (0, 0), (0, 1)), mode="edge")
    quads = np.stack([lines[..., ::2], lines[..., 1::2], *[np.full_like(lines[..., ::2], 128)] * 2], -1)
    stored = np.zeros((frames, rows, columns, 3), np.uint8)
    path = write_dicom(tmp_path / "a.dcm", stored[:, :, :6], photometric, Columns=7, PixelData=quads.tobytes())
    expected = luma if photometric == "YBR_FULL_422" else np.round((luma - 16.0) * 255 / 219)
    assert np.abs(read_clip(path).frames - expected).max() == 0
    with pytest.raises(ClipError, match="odd width 7"):
        read_clip(
            write_dicom(tmp_path / "b.dcm", stored[:, :, :6], photometric, Columns=7, PixelData=quads.tobytes()[:-8])
        )


@pytest.mark.parametrize("syntax", ["explicit", "big", "implicit"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("place", ["low", "high", "both"])
def test_palettes_whose_words_hold_8_bits_in_either_byte(tmp_path, depth, place, syntax):
    colors = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    elements = palette(colors)
    for name, column in zip(("Red", "Green", "Blue"), colors.T, strict=True):
        words = column.astype("<u2") * {"low": 1, "high": 256, "both": 257}[place]
        if place == "both":
            words = words & 0xFF00 | np.random.default_rng(1).integers(0, 256, 256).astype("<u2")  # 16 true bits
        elements[f"{name}PaletteColorLookupTableDescriptor"][2] = depth
        elements[f"{name}PaletteColorLookupTableData"] = words.astype(">u2" if syntax == "big" else "<u2").tobytes()
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(2), "PALETTE COLOR", syntax, **elements))
    assert np.abs(clip.frames - (colors @ LUMA)[speckle(2)]).max() <= 0.51


@pytest.mark.parametrize("syntax", ["explicit", "big", "rle"])
@pytest.mark.parametrize("high", [11, 13, 15])
def test_bits_that_stand_above_others(tmp_path, high, syntax):
    values = np.arange(4096, dtype=np.uint16).reshape(1, 64, 64)
    noise = np.random.default_rng(0).integers(0, 65536, values.shape).astype(np.uint16)
    mask = np.uint16(0xFFF << (high - 11))
    stored = values << (high - 11) | noise & ~mask
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, BitsStored=12, HighBit=high)
    clip = read_clip(path)
    assert np.array_equal(clip.frames, values >> 4) and clip.warnings == ()
    signed = write_dicom(tmp_path / "b.dcm", stored, BitsStored=12, HighBit=high, PixelRepresentation=1)
    assert np.array_equal(read_clip(signed).frames, (values + 2048) % 4096 >> 4)


def test_a_high_bit_that_cannot_be_is_told(tmp_path):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(1).astype(np.uint16), BitsStored=12, HighBit=3))
    assert np.array_equal(clip.frames, speckle(1) >> 4)
    assert any("wrong about High Bit" in warning for warning in clip.warnings)


@pytest.mark.parametrize(
    ("syntax", "told"),
    [
        ("1.2.840.10008.1.2.4.110", "JPEG XL"),
        ("1.2.840.10008.1.2.4.111", "JPEG XL"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL"),
        ("1.2.840.10008.1.2.1.98", "encapsulated uncompressed"),
        ("1.2.840.10008.1.2.8.1", "deflate"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
    ],
)
def test_transfer_syntaxes_that_are_not_read_are_named(tmp_path, syntax, told):
    path = write_dicom(tmp_path / "a.dcm", speckle(1), syntax="jpeg", fragments=[b"\xff\x0a" + bytes(40)])
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)  # by hand: pydicom does not know all of them
    written = b"\x16\0" + SYNTAXES["jpeg"].encode()
    path.write_bytes(path.read_bytes().replace(written, len(uid).to_bytes(2, "little") + uid))
    with pytest.raises(ClipError, match=f"{told}.*not read here; export it"):
        read_clip(path)


@pytest.mark.parametrize("fault", [b"\0\0", bytes(64)])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_hole_in_a_cine_keeps_the_times_of_later_frames(tmp_path, fault, pieces):
    """With one fragment a frame their number tells; with several, the table of offsets does."""
    fragments = [jpeg(frame) for frame in speckle(5)]
    fragments[2] = fault
    path = tmp_path / "a.dcm"
    write_dicom(path, speckle(5), syntax="jpeg", fragments=fragments, FrameTime=20)
    if pieces == 2:
        from pydicom import dcmread
        from pydicom.encaps import encapsulate

        dataset = dcmread(path)
        dataset.PixelData = encapsulate([part + b"\0" * 64 for part in fragments], fragments_per_frame=2)
        dataset.save_as(path)
    from usbackbones.clips.read import timed_frames

    faults = []
    times = [seconds for _, seconds in timed_frames(path, warn=faults.append)]
    assert times == pytest.approx([0, 0.02, 0.06, 0.08])
    assert len(faults) == 1 and "1 of 5 frames cannot be decoded" in faults[0]


def test_deflate_with_the_header_of_zlib(tmp_path):
    plain = write_dicom(tmp_path / "a.dcm", speckle(2), syntax="deflated")
    content = plain.read_bytes()
    place = next(i for i in range(132, 600) if _inflates(content[i:]))
    plain.write_bytes(content[:place] + zlib.compress(zlib.decompress(content[place:], -15)))
    assert np.array_equal(read_clip(plain).frames, speckle(2))


def _inflates(content):
    try:
        return re.match(rb"\x08\x00", zlib.decompress(content, -15)) is not None
    except zlib.error:
        return False
