"""Orientation: frames come upright from every video and still, as players, viewers and annotation tools show them."""

import io
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.hub.clips.test_read import write_video
from usbackbones.clips import ClipError, iter_frames, read_clip
from usbackbones.clips.formats.upright import TURNS, matrix_orientation, upright, upright_spacing
from usbackbones.clips.read import timed_frames

# By orientation, the two rows of the display matrix, as in ISO 14496-12: (a, b), (c, d); x' = ax + cy, y' = bx + dy.
MATRICES = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, 1), (-1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}
STILLS = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tif": {}}


def corner(height=48, width=80):
    """A quarter at the top left is bright, and a strip at the top right less so: all eight orientations differ."""
    still = np.zeros((height, width), np.uint8)
    still[: height // 2, : width // 2] = 200
    still[: height // 4, width // 2 :] = 100
    return still


def slow_turn(stored, matrix):
    """Each pixel sent to where the matrix puts it, moved so that none is negative."""
    (a, b), (c, d) = matrix
    places = {(a * x + c * y, b * x + d * y): stored[y, x] for y in range(len(stored)) for x in range(len(stored[0]))}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    turned = np.zeros(stored.shape if a else stored.shape[::-1], stored.dtype)
    for (x, y), value in places.items():
        turned[y - top, x - left] = value
    return turned


def write_turned(path, matrix, frames=None):
    """A video whose track header has the display matrix; numbers of the matrix are times 65536."""
    write_video(path, np.stack([corner()] * 3) if frames is None else frames, "libx264", "yuv420p")
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    (a, b), (c, d) = (np.asarray(matrix) * 65536).astype(int).tolist()
    content[place : place + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content)
    return path


def by_opencv(path, orientation):
    """Frames [T, H, W] as OpenCV shows them; of mirrored ones it shows what is stored, which the slow form turns."""
    capture, frames = cv2.VideoCapture(str(path)), []
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, int(orientation in (1, 3, 6, 8)))
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
    turned = frames if orientation in (1, 3, 6, 8) else [slow_turn(frame, MATRICES[orientation]) for frame in frames]
    return np.stack(turned)


@pytest.mark.parametrize("orientation", TURNS)
def test_the_turns_are_those_of_pillow_and_of_the_slow_form(orientation):
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image, exif = Image.fromarray(stored), Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    assert np.array_equal(upright(stored, orientation), expected)
    assert np.array_equal(slow_turn(stored, MATRICES[orientation]), expected)
    colors = np.repeat(stored[..., None], 3, -1)
    assert np.array_equal(upright(colors, orientation)[..., 0], expected)
    assert upright_spacing((0.1, 0.3), orientation) == ((0.3, 0.1) if orientation > 4 else (0.1, 0.3))


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("orientation", MATRICES)
def test_a_video_is_shown_as_its_display_matrix_says(tmp_path, suffix, orientation):
    path = write_turned(tmp_path / f"clip.{suffix}", MATRICES[orientation])
    expected = upright(corner(), orientation)
    frames = read_clip(path).frames
    assert frames.shape == (3, *expected.shape)
    assert np.abs(frames.astype(int) - expected).mean() < 3
    assert np.abs(frames.astype(int) - by_opencv(path, orientation)).max() <= 2
    assert np.array_equal(np.stack(list(iter_frames(path))), frames)
    assert np.array_equal(np.stack([frame for frame, _ in timed_frames(path)]), frames)


def test_a_display_matrix_may_scale_and_be_empty_but_not_slant(tmp_path):
    assert matrix_orientation(np.zeros(9, np.int32).tobytes()) == 1
    assert matrix_orientation(np.array([0, 32768, 0, -131072, 0, 0, 0, 0, 1 << 30], np.int32).tobytes()) == 6
    slant = ((0.8, 0.6), (-0.6, 0.8))
    with pytest.raises(ClipError, match=r"a slant of .* degrees; write its frames upright"):
        read_clip(write_turned(tmp_path / "clip.mp4", slant))


def save_still(path, orientation, stored=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corner() if stored is None else stored).save(path, exif=exif, **STILLS[path.suffix[1:]])
    return path


@pytest.mark.parametrize("suffix", STILLS)
@pytest.mark.parametrize("orientation", [*TURNS, 9])
def test_a_still_is_shown_as_its_exif_says_alone_in_a_folder_and_in_a_zip(tmp_path, suffix, orientation):
    (tmp_path / "clip").mkdir()
    path = save_still(tmp_path / "clip" / f"0.{suffix}", orientation)
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as archive:
        archive.write(path, path.name)
    expected = upright(corner(), orientation if orientation in TURNS else 1)
    for clip in (path, tmp_path / "clip", tmp_path / "clip.zip"):
        read = read_clip(clip)
        assert read.frames.shape == (1, *expected.shape) and read.warnings == ()
        assert np.abs(read.frames[0].astype(int) - expected).mean() < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_of_any_compression_and_of_pages_that_differ(tmp_path, dtype, compression):
    stored = (np.random.default_rng(0).integers(0, 256, (24, 40)) * (257 if dtype == np.uint16 else 1)).astype(dtype)
    pages = []
    for orientation in (6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stream = io.BytesIO()
        Image.fromarray(stored).save(stream, "TIFF", exif=exif, compression=compression)
        (tmp_path / f"{orientation}.tif").write_bytes(stream.getvalue())
        pages.append(Image.open(stream))
    gray = (stored >> 8 if dtype == np.uint16 else stored).astype(np.uint8)
    for orientation in (6, 8):
        assert np.array_equal(read_clip(tmp_path / f"{orientation}.tif").frames[0], upright(gray, orientation))
    assert np.array_equal(read_clip(tmp_path).frames, np.stack([upright(gray, 6), upright(gray, 8)]))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_never_costs_the_image(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(corner()).save(path, exif=b"Exif\x00\x00no TIFF header is here", **STILLS[suffix])
    clip = read_clip(path)
    assert clip.frames.shape == (1, 48, 80)
    # Of a JPEG, Pillow has looked at it while opening, and passes over the damage.
    assert [("EXIF is damaged" in warning) for warning in clip.warnings] == [True] * (suffix != "jpg")
