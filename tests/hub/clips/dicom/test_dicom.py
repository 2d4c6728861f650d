"""DICOM: every photometric interpretation in every transfer syntax comes back as the gray that was written."""

import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.hub.clips.dicom.dicom_files import (
    LOSSLESS,
    LUMA,
    SYNTAXES,
    doppler,
    jpeg,
    palette,
    speckle,
    to_ybr,
    write_dicom,
)
from usbackbones.clips.read import ClipError, iter_frames, read_clip

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"])
def test_lossless_frames_come_back(tmp_path, photometric, syntax):
    elements = {}
    if photometric.startswith("MONO"):
        stored = speckle()
        expected = 255.0 - stored if photometric == "MONOCHROME1" else stored
    elif photometric == "PALETTE COLOR":
        stored, colors = speckle(), np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
        elements, expected = palette(colors), (colors @ LUMA)[stored]
    else:
        rgb = doppler()
        stored, expected = rgb if photometric == "RGB" else to_ybr(rgb), rgb @ LUMA
    clip = read_clip(write_dicom(tmp_path / "a.dcm", stored, photometric, syntax, **elements))
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape == expected.shape
    # Rounding luma to whole numbers costs half a level; gray costs nothing.
    assert np.abs(clip.frames - expected).max() <= (0 if photometric.startswith("MONO") else 0.51)
    assert clip.color is (not photometric.startswith("MONO"))


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big", "deflated"])
def test_thinned_chroma_leaves_the_luma(tmp_path, syntax):
    clip = read_clip(write_dicom(tmp_path / "a.dcm", to_ybr(doppler()), "YBR_FULL_422", syntax))
    assert np.abs(clip.frames - doppler() @ LUMA).max() <= 0.51
    assert clip.color is True


def without(content, marker):
    """A JPEG without its segments of a marker."""
    place, kept = 2, [content[:2]]
    while content[place + 1] != 0xDA:
        length = 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        kept += [content[place : place + length]] * (content[place + 1] != marker)
        place += length
    return b"".join([*kept, content[place:]])


def renamed(content):
    """A JPEG of components called R, G and B, with components called 1, 2 and 3."""
    frame, scan = content.index(b"\xff\xc0") + 10, content.index(b"\xff\xda") + 5
    changed = bytearray(content)
    for index in range(3):
        assert changed[frame + 3 * index] == changed[scan + 2 * index] == b"RGB"[index]
        changed[frame + 3 * index] = changed[scan + 2 * index] = index + 1
    return bytes(changed)


STREAMS = {  # how a stream says what its three components are, and what a truthful header may call it
    "luma and chroma, JFIF": lambda frame: jpeg(frame),
    "luma and chroma, thinned, JFIF": lambda frame: jpeg(frame, subsampling="4:2:2"),
    "luma and chroma, thinned, silent": lambda frame: without(jpeg(frame, subsampling="4:2:2"), 0xE0),
    "RGB, Adobe": lambda frame: jpeg(frame, keep_rgb=True),
    "RGB, by the names of its components": lambda frame: without(jpeg(frame, keep_rgb=True), 0xEE),
}


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("stream", STREAMS)
def test_jpeg_is_never_green_whatever_the_header_says(tmp_path, stream, photometric):
    """What the stream says of its colors is true; what the header says may be a lie."""
    rgb = doppler()
    fragments = [STREAMS[stream](frame) for frame in rgb]
    clip = read_clip(write_dicom(tmp_path / "a.dcm", rgb, photometric, "jpeg", fragments=fragments))
    wrong = np.abs(clip.frames - rgb @ LUMA)
    assert wrong.mean() < 1
    assert wrong[:, 20:28, 20:36].max() < 4  # within the red patch
    assert wrong[:, 36:44, 44:60].max() < 4  # and the blue one
    assert clip.color is True


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_jpeg_that_says_nothing_is_what_its_header_says(tmp_path, photometric):
    rgb = doppler()
    if photometric == "RGB":
        fragments = [renamed(without(jpeg(frame, keep_rgb=True), 0xEE)) for frame in rgb]
    else:
        fragments = [without(jpeg(frame, subsampling="4:4:4"), 0xE0) for frame in rgb]
    clip = read_clip(write_dicom(tmp_path / "a.dcm", rgb, photometric, "jpeg", fragments=fragments))
    assert np.abs(clip.frames - rgb @ LUMA).mean() < 1


def test_gray_jpeg(tmp_path):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        clip = read_clip(write_dicom(tmp_path / "a.dcm", speckle(), photometric, "jpeg"))
        expected = 255 - speckle() if photometric == "MONOCHROME1" else speckle()
        assert np.abs(clip.frames.astype(int) - expected).mean() < 1
        assert clip.color is False


@pytest.mark.parametrize("syntax", ["explicit", "big", "rle"])
def test_colors_in_planes(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", doppler(), "RGB", syntax, PlanarConfiguration=1)
    assert np.abs(read_clip(path).frames - doppler() @ LUMA).max() <= 0.51


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_odd_sizes(tmp_path, syntax):
    """Frames of an odd number of bytes: in big-endian words the last byte of one stands within the next."""
    stored = speckle(4, 33, 41)
    assert np.array_equal(read_clip(write_dicom(tmp_path / "a.dcm", stored, syntax=syntax)).frames, stored)


@pytest.mark.parametrize("form", ["implicit", "explicit"])
def test_without_a_preamble(tmp_path, form):
    path = write_dicom(tmp_path / "a", speckle(), syntax=form, meta=False)
    assert path.read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read_clip(path).frames, speckle())


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_frames_stream_as_they_are_read(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", speckle(11), syntax=syntax, FrameTime=40)
    whole = read_clip(path)
    for stride in (1, 3, 20):
        for most in (None, 1, 2, 100):
            clip = read_clip(path, stride=stride, max_frames=most)
            assert np.array_equal(clip.frames, whole.frames[::stride][:most])
            assert np.array_equal(np.stack(list(iter_frames(path, stride=stride, max_frames=most))), clip.frames)
    assert read_clip(path, stride=3).seconds_per_frame == pytest.approx(0.12)


def run_alone(code):
    """Run code in a new interpreter that has the readers without the package around them, which would load torch."""
    alone = "import sys, types\nsys.modules['usbackbones'] = package = types.ModuleType('usbackbones')\n"
    alone += f"package.__path__ = [{str(REPOSITORY / 'usbackbones')!r}]\n"
    return subprocess.run([sys.executable, "-c", alone + code], capture_output=True, text=True)


def peak_kilobytes(path, take="sum(1 for frame in iter_frames(path))"):
    """How much the peak memory of a process grows from reading one frame to what `take` does, which gives the count."""
    code = f"""
import re
from pathlib import Path
from usbackbones.clips.read import iter_frames, read_clip
# Not getrusage, which in a child begins with the peak of its parent.
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
path = {str(path)!r}
for frame in iter_frames(path, max_frames=1): pass
before = peak()
print({take}, peak() - before)
"""
    run = run_alone(code)
    assert run.returncode == 0, run.stderr
    count, grown = map(int, run.stdout.split())
    assert count == 2000
    return grown


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("syntax", ["explicit", "deflated", "jpeg"])
def test_a_cine_of_2000_frames_takes_the_memory_of_one(tmp_path, syntax):
    """64 MB of frames. They are written by hand, since pydicom would hold them all."""
    frames = speckle(1, 160, 200)
    path = write_dicom(tmp_path / "a.dcm", frames, syntax="explicit" if syntax == "deflated" else syntax)
    content = path.read_bytes()
    if syntax == "jpeg":
        whole = jpeg(frames[0]) + b"\0" * (len(jpeg(frames[0])) % 2)
        item = b"\xfe\xff\x00\xe0" + len(whole).to_bytes(4, "little") + whole
        place = content.index(item)
        content = content[:place] + item * 2000 + content[place + len(item) :]
    else:
        place = content.index(b"\xe0\x7f\x10\x00OB") + 8
        assert int.from_bytes(content[place : place + 4], "little") == frames.size
        content = content[:place] + (2000 * frames.size).to_bytes(4, "little") + 2000 * frames.tobytes()
    content = re.sub(rb"(\x28\x00\x08\x00IS)\x02\x001 ", lambda found: found[1] + b"\x04\x002000", content)
    if syntax == "deflated":
        body = content.index(b"\x08\x00\x16\x00UI")
        packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        meta = content[:body].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
        meta = meta.replace(b"\x02\x00\x10\x00UI\x14\x00", b"\x02\x00\x10\x00UI\x16\x00")
        content = meta + packer.compress(content[body:]) + packer.flush()
    path.write_bytes(content)
    assert peak_kilobytes(path) < 16_000
    if syntax == "explicit":  # and this is what holding them would look like
        assert peak_kilobytes(path, "len(read_clip(path).frames)") > 60_000


def run_without(module, path):
    """The last line of the errors of reading a file where a module is not installed, and gdcm is neither."""
    code = f"sys.modules[{module!r}] = sys.modules['gdcm'] = None\nfrom usbackbones.clips.read import read_clip\n"
    code += f"read_clip({str(path)!r})"
    return run_alone(code).stderr.strip().splitlines()[-1]


def test_what_is_missing_is_named_with_the_line_that_installs_it(tmp_path):
    last = run_without("pydicom", write_dicom(tmp_path / "a.dcm", speckle(1)))
    assert "ClipError" in last
    assert "pip install 'usbackbones[dicom]'" in last
    last = run_without("jpeg_ls", write_dicom(tmp_path / "b.dcm", speckle(1), syntax="jpeg-ls"))
    assert "frames of JPEG-LS" in last
    assert "pip install 'usbackbones[dicom]'" in last


def test_videos_and_12_bit_jpeg_are_refused_by_name(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", speckle(1), syntax="jpeg")
    content = path.read_bytes()
    place = content.index(b"\xff\xc0") + 4
    path.write_bytes(content[:place] + b"\x0c" + content[place + 1 :])
    with pytest.raises(ClipError, match="12-bit JPEG"):
        read_clip(path)
    video = write_dicom(tmp_path / "b.dcm", speckle(1), syntax="jpeg", fragments=[b"\0\0\1\xb3" + bytes(100)])
    content = video.read_bytes().replace(b"\x16\x001.2.840.10008.1.2.4.50", b"\x18\x001.2.840.10008.1.2.4.102\0")
    video.write_bytes(content)
    with pytest.raises(ClipError, match="video within DICOM"):
        read_clip(video)
