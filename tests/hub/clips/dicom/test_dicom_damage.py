"""DICOM that is cut short, or whose header lies: a clear error, or a warning and the frames that are there."""

import random
import struct

import numpy as np
import pytest

from tests.hub.clips.dicom.dicom_files import LUMA, SYNTAXES, doppler, jpeg, pixel_data_at, speckle, to_ybr, write_dicom
from usbackbones.clips import ClipError, find_clips, read_clip

OB = b"\xe0\x7f\x10\x00OB\x00\x00"


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


def warned(clip, *parts):
    """One of the warnings holds every part."""
    return any(all(part in warning for part in parts) for warning in clip.warnings)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_truncation(tmp_path, syntax):
    """Cut at fifty places, a file gives an error, or its first frames exactly and a warning of what is missing."""
    path = write_dicom(tmp_path / "a.dcm", speckle(12), syntax=syntax)
    whole, content = read_clip(path).frames, path.read_bytes()
    counts = []
    for cut in np.linspace(1, len(content) - 1, 50).astype(int):
        path.write_bytes(content[:cut])
        try:
            clip = read_clip(path)
        except ClipError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
            assert "; " in str(error)
            counts.append(0)
            continue
        counts.append(len(clip.frames))
        assert np.array_equal(clip.frames, whole[: len(clip.frames)])
        if len(clip.frames) < len(whole):
            assert warned(clip, str(path), "12 are promised")
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert len(set(counts)) > 5


@pytest.mark.parametrize("syntax", ["explicit", "jpeg", "rle", "deflated"])
@pytest.mark.parametrize("promised", [1, 3, 11, 2_000_000_000, None])
def test_a_wrong_frame_count(tmp_path, syntax, promised):
    path = write_dicom(tmp_path / "a.dcm", speckle(5), syntax=syntax, NumberOfFrames=promised)
    clip = read_clip(path)
    assert clip.frames.shape == (5, 64, 80)
    if promised and promised > 5:
        assert warned(clip, "5 frames are there", f"{promised} are promised")
    else:
        assert warned(clip, f"promises {promised or 1} frames", "5 are there")


NEEDED = {"Rows": "Rows and Columns", "Columns": "Rows and Columns", "BitsAllocated": "Bits Allocated"}


@pytest.mark.parametrize("keyword", [*NEEDED, "SamplesPerPixel", "PhotometricInterpretation", "BitsStored"])
def test_a_missing_element(tmp_path, keyword):
    path = write_dicom(tmp_path / "a.dcm", speckle(), **{keyword: None})
    if keyword in NEEDED:
        with pytest.raises(ClipError, match=f"tells no {NEEDED[keyword]}.*; export it again"):
            read_clip(path)
    else:
        clip = read_clip(path)
        assert np.array_equal(clip.frames, speckle())
        assert bool(clip.warnings) is (keyword == "PhotometricInterpretation")
    # Compressed frames know all of it themselves.
    compressed = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), syntax="jpeg-ls", **{keyword: None}))
    assert np.array_equal(compressed.frames, speckle())


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ({"SamplesPerPixel": 3}, "contradicts itself, MONOCHROME2 and 3 samples"),
        ({"PhotometricInterpretation": "RGB"}, "contradicts itself, RGB and 1 samples"),
        ({"BitsAllocated": 32}, "no Bits Allocated of 8 or 16"),
        ({"Rows": 0}, "no Rows and Columns"),
        ({"Rows": 65535, "Columns": 65535}, "no Rows and Columns"),
        ({"Rows": 20_000}, "end before the first frame"),
    ],
)
def test_lies_that_leave_no_picture(tmp_path, lie, told):
    with pytest.raises(ClipError, match=told):
        read_clip(write_dicom(tmp_path / "a.dcm", speckle(), **lie))


def test_lies_about_the_size(tmp_path):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), Columns=81))
    assert warned(clip, "not a whole number of frames")
    for syntax in ("jpeg", "jpeg-ls", "jpeg2000"):
        clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), syntax=syntax, Rows=9, Columns=7))
        assert clip.frames.shape == (5, 64, 80)
        assert warned(clip, "wrong about the size", "80x64")


def test_thinned_chroma_that_is_whole(tmp_path):
    """A well-known lie: YBR_FULL_422 in the header, three whole planes in the file."""
    path = write_dicom(tmp_path / "a.dcm", to_ybr(doppler()), "YBR_FULL", PhotometricInterpretation="YBR_FULL_422")
    clip = read_clip(path)
    assert np.abs(clip.frames - doppler() @ LUMA).max() <= 0.51
    assert warned(clip, "read as YBR_FULL")


def test_lies_about_the_transfer_syntax(tmp_path):
    """Compressed frames called uncompressed, the other way round, and one codec called another."""
    content = write_dicom(tmp_path / "a.dcm", speckle(), syntax="jpeg-ls").read_bytes()
    told, path = b"\x16\x001.2.840.10008.1.2.4.80", tmp_path / "b.dcm"
    path.write_bytes(content.replace(told, b"\x14\x001.2.840.10008.1.2.1\0"))
    clip = read_clip(path)
    assert np.array_equal(clip.frames, speckle())
    assert warned(clip, "frames are compressed")
    path.write_bytes(content.replace(told, b"\x16\x001.2.840.10008.1.2.4.50"))
    assert np.array_equal(read_clip(path).frames, speckle())
    content = write_dicom(tmp_path / "a.dcm", speckle()).read_bytes()
    path.write_bytes(content.replace(b"\x14\x001.2.840.10008.1.2.1\0", told))
    clip = read_clip(path)
    assert np.array_equal(clip.frames, speckle())
    assert warned(clip, "not compressed")


def test_an_offset_table_that_lies_is_not_asked(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", speckle(), syntax="jpeg")
    whole, content = read_clip(path).frames, path.read_bytes()
    place = pixel_data_at(content)
    assert struct.unpack_from("<I", content, place + 4)[0] == 20
    path.write_bytes(content[: place + 8] + random.Random(0).randbytes(20) + content[place + 28 :])
    assert np.array_equal(read_clip(path).frames, whole)
    path.write_bytes(content[:place] + content[place + 28 :])  # no table at all
    assert np.array_equal(read_clip(path).frames, whole)


def test_frames_in_several_fragments(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", speckle(), syntax="jpeg")
    whole, content = read_clip(path).frames, path.read_bytes()
    place = pixel_data_at(content)
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    for frame in speckle():
        stream = jpeg(frame) + b"\0" * (len(jpeg(frame)) % 2)
        for part in (stream[:100], stream[100:300], stream[300:]):
            items += b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part
    path.write_bytes(content[:place] + items + b"\xfe\xff\xdd\xe0\0\0\0\0")
    clip = read_clip(path)
    assert np.array_equal(clip.frames, whole)
    assert clip.warnings == ()


def test_a_damaged_frame_is_left_out_and_counted(tmp_path):
    fragments = [jpeg(frame) for frame in speckle()]
    fragments[2] = fragments[2][:200]
    fragments[3] = jpeg(speckle(1, 32, 40)[0])  # of another size
    path = write_dicom(tmp_path / "a.dcm", speckle(), syntax="jpeg", fragments=fragments)
    clip = read_clip(path)
    assert clip.frames.shape == (3, 64, 80)
    assert warned(clip, "2 of 5 frames cannot be decoded")
    assert read_clip(path, stride=2).frames.shape == (2, 64, 80)
    path = write_dicom(tmp_path / "a.dcm", speckle(1), syntax="jpeg", fragments=fragments[2:3])
    with pytest.raises(ClipError, match="none of 1 frames can be decoded; export it again"):
        read_clip(path)


def test_a_picture_that_promises_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    stream = bytearray(jpeg(speckle(1)[0]))
    place = stream.index(b"\xff\xc0") + 5
    stream[place : place + 4] = b"\xff\xff\xff\xff"
    path = write_dicom(tmp_path / "a.dcm", speckle(1), syntax="jpeg", fragments=[bytes(stream)])
    with pytest.raises(ClipError, match="no Rows and Columns that can be"):
        read_clip(path)


def test_dicom_is_found_by_content(tmp_path):
    first = write_dicom(tmp_path / "IM_0002", speckle(1))
    second = write_dicom(tmp_path / "IM_0010", speckle(1), syntax="jpeg")
    bare = write_dicom(tmp_path / "deep.1", speckle(1), meta=False)
    liar = tmp_path / "report.dcm"
    liar.write_text("no DICOM at all")
    (tmp_path / "notes.txt").write_text("nor this")
    (tmp_path / "DICOMDIR").write_bytes(
        first.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.3.1\0", b"1.2.840.10008.1.3.10".ljust(28, b"\0"))
    )
    assert find_clips(tmp_path) == [bare, first, second, liar]
    with pytest.raises(ClipError, match="no format that is known here"):
        read_clip(liar)


def test_dicom_without_pixels(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", speckle(1))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(OB)])
    with pytest.raises(ClipError, match="without pixels that can be found"):
        read_clip(path)
