"""Reading clips: every container, broken files of every kind, color, timing, memory."""

import csv
import random
import tracemalloc

import av
import numpy as np
import pytest
from PIL import Image

from usbackbones.clips import ClipError, find_clips, iter_frames, read_clip

# suffix: codec, pixel format, what the codec may change (mean absolute difference in gray levels)
CONTAINERS = {
    "mp4": ("libx264", "yuv420p", 3),
    "mov": ("libx264", "yuv420p", 3),
    "avi": ("mpeg4", "yuv420p", 3),
    "mpeg": ("mpeg2video", "yuv420p", 3),
    "webm": ("libvpx", "yuv420p", 3),
    "mkv": ("ffv1", "gray", 0),
    "wmv": ("wmv2", "yuv420p", 3),
}


def moving(frames=24, height=96, width=112, seed=0):
    """A smooth random texture that drifts, uint8 [T, H, W]."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    field = np.fft.irfft2(spectrum * np.exp(-400 * (fx**2 + fy**2)), (height, width))
    still = np.uint8(np.clip(128 + 50 * field / field.std(), 0, 255))
    return np.stack([np.roll(still, (i, 2 * i), (0, 1)) for i in range(frames)])


def write_video(path, frames, codec, pix_fmt, *, rate=20, container=None, **options):
    """Write gray [T, H, W] or RGB [T, H, W, 3] with PyAV, at a high quality where the codec has one."""
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream(codec, rate=rate, options={"crf": "10"} if codec == "libx264" else {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = pix_fmt, 4_000_000
        for frame in frames:
            format_ = "gray" if frame.ndim == 2 else "rgb24"
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=format_)))
        output.mux(stream.encode())
    return path


def write_kind(folder, suffix, frames):
    codec, pix_fmt, _ = CONTAINERS[suffix]
    return write_video(folder / f"clip.{suffix}", frames, codec, pix_fmt)


def write_gif(path, frames, milliseconds=50):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds)
    return path


def one_line_about(error, *parts):
    """The message is one line that holds every part and a remedy after a semicolon."""
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text
    for part in parts:
        assert str(part) in text
    return True


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_container_is_read(tmp_path, suffix):
    frames = moving()
    clip = read_clip(write_kind(tmp_path, suffix, frames))
    assert clip.frames.shape == frames.shape
    assert clip.frames.dtype == np.uint8
    assert clip.warnings == ()
    assert clip.spacing_mm is None
    assert clip.source == str(tmp_path / f"clip.{suffix}")
    assert clip.seconds_per_frame == pytest.approx(1 / 20, abs=1e-3)
    assert np.abs(clip.frames.astype(int) - frames).mean() <= CONTAINERS[suffix][2]


def test_animated_gif_is_read_as_a_video_and_a_still_gif_as_one_frame(tmp_path):
    frames = moving(8)
    clip = read_clip(write_gif(tmp_path / "clip.gif", frames))
    assert np.array_equal(clip.frames, frames)
    assert clip.seconds_per_frame == pytest.approx(0.05)
    assert read_clip(write_gif(tmp_path / "still.gif", frames[:1])).frames.shape == (1, 96, 112)


def test_gif_agrees_with_ffmpeg(tmp_path):
    path = write_gif(tmp_path / "clip.gif", moving(8))
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert np.abs(read_clip(path).frames.astype(int) - np.stack(expected)).max() <= 1


@pytest.mark.parametrize("name", ["clip.avi", "clip.png", "clip.txt", "clip", "12:30 scan.mp4", "näive clip.mpeg"])
def test_content_decides_and_not_the_name(tmp_path, name):
    frames = moving(6)
    (tmp_path / name).write_bytes(write_kind(tmp_path, "mov", frames).read_bytes())
    assert read_clip(tmp_path / name).frames.shape == frames.shape


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_still_is_a_clip_of_one_frame(tmp_path, suffix):
    frame = moving(1)[0]
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(frame).save(path, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    clip = read_clip(path)
    assert clip.frames.shape == (1, 96, 112)
    assert clip.seconds_per_frame is None
    assert np.abs(clip.frames[0].astype(int) - frame).mean() <= (2 if suffix in ("jpg", "webp") else 0)


def test_every_page_of_a_tiff_stack_is_a_frame(tmp_path):
    frames = moving(5)
    write_gif(tmp_path / "stack.tif", frames)
    clip = read_clip(tmp_path / "stack.tif")
    assert np.array_equal(clip.frames, frames)
    assert clip.seconds_per_frame is None


def test_16_bit_pixels_are_scaled_and_not_clipped(tmp_path):
    deep = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(read_clip(tmp_path / "deep.png").frames[0], deep // 256)


def test_float_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ClipError) as error:
        read_clip(tmp_path / "float.tif")
    assert one_line_about(error, "float.tif", "BlackIsZero 32 float", "save them as 8-bit gray")


def test_color_becomes_the_same_luma_in_every_kind_of_file(tmp_path):
    """Blocks of plain color as PNG, GIF and as video in two color spaces, against ITU-R BT.601 in float."""
    blocks = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    color = blocks.repeat(16, 0).repeat(16, 1)
    expected = color @ np.array([0.299, 0.587, 0.114])
    Image.fromarray(color).save(tmp_path / "a.png")
    Image.fromarray(color).quantize(256, dither=Image.Dither.NONE).save(tmp_path / "a.gif")
    write_video(tmp_path / "rgb.mkv", color[None], "ffv1", "bgr0")
    write_video(tmp_path / "yuv.mkv", color[None], "ffv1", "yuv444p")
    for name in ("a.png", "a.gif", "rgb.mkv", "yuv.mkv"):
        assert np.abs(read_clip(tmp_path / name).frames[0] - expected).max() < 2, name


def test_videos_use_the_full_gray_range(tmp_path):
    """Video stores 16..235; black must come out as 0 and white as 255."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (3, 64, 1))
    frames = read_clip(write_video(tmp_path / "ramp.mkv", ramp, "ffv1", "yuv420p")).frames
    assert np.abs(frames.astype(int) - ramp).max() <= 1


def test_stride_and_max_frames(tmp_path):
    frames = moving(23)
    path = write_kind(tmp_path, "mkv", frames)
    for stride in (1, 2, 5, 30):
        for most in (None, 1, 3, 100):
            clip = read_clip(path, stride=stride, max_frames=most)
            assert np.array_equal(clip.frames, frames[::stride][:most])
            streamed = list(iter_frames(path, stride=stride, max_frames=most))
            assert np.array_equal(np.stack(streamed), clip.frames)
    assert read_clip(path, stride=2).seconds_per_frame == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"max_frames": 0}, {"stride": -1}])
def test_stride_and_max_frames_must_be_positive(tmp_path, wrong):
    path = write_kind(tmp_path, "mkv", moving(3))
    with pytest.raises(ValueError, match="at least 1"):
        read_clip(path, **wrong)


def test_streaming_holds_no_clip_in_memory(tmp_path):
    """400 frames of 128 x 128 are 6.5 MB; streaming them takes a fraction of that."""
    path = write_video(tmp_path / "long.avi", moving(400, 128, 128), "mpeg4", "yuv420p")
    tracemalloc.start()
    total = sum(frame.shape == (128, 128) for frame in iter_frames(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 400
    assert peak < 1e6


def test_uneven_frame_times_are_told(tmp_path):
    images = [Image.fromarray(frame) for frame in moving(6)]
    times = [50, 50, 400, 50, 50, 50]
    images[0].save(tmp_path / "uneven.gif", save_all=True, append_images=images[1:], duration=times)
    clip = read_clip(tmp_path / "uneven.gif")
    assert clip.seconds_per_frame == pytest.approx(0.05)
    assert any("uneven frame times" in warning for warning in clip.warnings)


BROKEN = {
    "empty.mp4": b"",
    "text.mp4": b"This is a note and no video.\nIt has two lines.\n",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-VERSION:3\n/etc/passwd\n",
    "zeros.avi": bytes(5000),
    "noise.mpeg": random.Random(0).randbytes(5000),
    "head.mp4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41",
    "head.avi": b"RIFF\x00\x10\x00\x00AVI LIST",
    "head.png": b"\x89PNG\r\n\x1a\n",
    "head.gif": b"GIF89a",
    "head.webm": b"\x1aE\xdf\xa3\x9f",
    "head.mpeg": b"\x00\x00\x01\xba" + bytes(100),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_which_nothing_can_be_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(ClipError) as error:
        read_clip(path)
    assert one_line_about(error, path)
    with pytest.raises(ClipError):
        next(iter_frames(path))


def test_a_path_that_does_not_exist(tmp_path):
    for look in (read_clip, find_clips, lambda path: next(iter_frames(path))):
        with pytest.raises(ClipError) as error:
            look(tmp_path / "absent.mp4")
        assert one_line_about(error, tmp_path / "absent.mp4", "o such file")


def test_sound_without_pictures(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(ClipError) as error:
        read_clip(tmp_path / "sound.mp4")
    assert one_line_about(error, "sound.mp4", "no video stream")


@pytest.mark.parametrize("suffix", [*CONTAINERS, "gif", "tif", "fast.mp4"])
def test_truncation(tmp_path, suffix):
    """Cut at twenty places, a file gives an error, or the first frames; and a warning whenever some are missing."""
    frames = moving()
    if suffix == "fast.mp4":  # the index stands first, so that a cut leaves frames
        path = write_video(tmp_path / "clip.mp4", frames, "libx264", "yuv420p", movflags="faststart")
    elif suffix in CONTAINERS:
        path = write_kind(tmp_path, suffix, frames)
    else:
        path = write_gif(tmp_path / f"clip.{suffix}", frames)
    whole, content = read_clip(path).frames, path.read_bytes()
    counts = []
    for cut in np.linspace(1, len(content) - 1, 20).astype(int):
        path.write_bytes(content[:cut])
        try:
            clip = read_clip(path)
        except ClipError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            counts.append(0)
            continue
        counts.append(len(clip.frames))
        # Each but the last, which the decoder may have had to guess in part, is one of the whole clip, in order.
        places = [np.flatnonzero((whole == frame).all((1, 2))) for frame in clip.frames[:-1]]
        assert all(len(place) == 1 for place in places)
        assert (np.diff(np.ravel(places)) > 0).all()
        if len(clip.frames) < len(whole):
            assert any(str(path) in warning and "cut short" in warning for warning in clip.warnings)
    assert counts[0] == 0
    if suffix not in ("mp4", "mov"):  # these two keep their index at the end
        assert len(set(counts)) > 4


def real_videos(shared_data):
    folder = shared_data / "pocus_lung"
    with (folder / "groups.csv").open(newline="") as stream:
        return [(folder / row["path"], row) for row in csv.DictReader(stream) if row["kind"] == "video"]


def check_real(path, row, stride):
    count = 0
    for frame in iter_frames(path, stride=stride, warn=lambda _: None):
        assert frame.shape == (int(row["height"]), int(row["width"])), path
        count += 1
    assert count == -(-int(row["frames"]) // stride), path


def test_real_videos_of_every_container(shared_data):
    """The two smallest files of each kind."""
    videos = sorted(real_videos(shared_data), key=lambda video: video[0].stat().st_size)
    suffixes = {path.suffix.lower() for path, _ in videos}
    assert suffixes == {".mp4", ".mov", ".avi", ".mpeg", ".gif"}
    for suffix in suffixes:
        for path, row in [video for video in videos if video[0].suffix.lower() == suffix][:2]:
            check_real(path, row, 1)
            clip = read_clip(path, max_frames=10)
            assert clip.warnings == ()
            assert 1 / clip.seconds_per_frame == pytest.approx(float(row["fps"]), rel=0.02)
            assert clip.frames.std() > 10
    assert len(find_clips(shared_data / "pocus_lung" / "pocus_videos")) == 131


@pytest.mark.slow
def test_all_real_videos(shared_data):
    """Every frame is decoded; every tenth is turned into pixels and looked at, which is what takes the time."""
    videos = real_videos(shared_data)
    assert len(videos) == 131
    for path, row in videos:
        check_real(path, row, 10)


@pytest.mark.parametrize("dropped", [(5, 6, 7), (19,), (0, 10)])
def test_an_avi_with_dropped_frames_is_not_damaged(tmp_path, dropped):
    """Where a frame was dropped, the index of an AVI has a chunk of length zero."""
    frames = moving(20)
    path = write_video(tmp_path / "a.avi", frames, "mjpeg", "yuvj420p")
    content = bytearray(path.read_bytes())
    index, start = content.index(b"idx1") + 8, content.index(b"movi")
    for number in dropped:
        entry = index + 16 * number
        place, size = (int.from_bytes(content[entry + at : entry + at + 4], "little") for at in (8, 12))
        place, size = place + start, size + size % 2
        content[entry + 12 : entry + 16] = bytes(4)
        content[place + 4 : place + 16] = bytes(4) + b"JUNK" + (size - 8).to_bytes(4, "little")
    path.write_bytes(content)
    clip = read_clip(path)
    kept = [frame for number, frame in enumerate(frames) if number not in dropped]
    assert len(clip.frames) == len(kept) and np.abs(clip.frames.astype(int) - np.stack(kept)).mean() < 3
    assert not any("damaged" in warning for warning in clip.warnings)
    path.write_bytes(content[: len(content) * 3 // 4])
    assert any("damaged or cut short" in warning for warning in read_clip(path).warnings)
