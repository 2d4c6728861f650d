"""Videos that are not played as they are stored: edit lists, late starts, several tracks, turns within the stream."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from usbackbones.clips.read import read_clip, timed_frames

RATE = 10
LEVELS = np.arange(8) * 20 + 60


def write(path, codec="libx264", pix_fmt="yuv420p", before=None, **options):
    """Frames of one gray level each, ten a second; `before` adds a stream that comes first."""
    with av.open(str(path), "w", options=options) as container:
        first = before(container) if before else None
        stream = container.add_stream(codec, rate=RATE, options={"crf": "5"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 80, 48, pix_fmt
        if first:  # once all streams are there
            still = av.VideoFrame.from_ndarray(np.full((24, 40, 3), 77, np.uint8), format="rgb24")
            container.mux([*first.encode(still), *first.encode(None)])
        for number, level in enumerate(LEVELS):
            pixels = np.full((48, 80, 3), level, np.uint8)
            pixels[:10, :20] = 20
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def atoms(content, start, end):
    while start < end:
        size, name = struct.unpack_from(">I4s", content, start)
        yield name, content[start : start + size]
        start += size


def atom(name, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, name) + body


def with_edits(source, path, edits):
    """The mp4 with another edit list: (frames shown, first frame or None for nothing shown) each."""
    content = source.read_bytes()
    movie, media = (struct.unpack_from(">I", content, content.index(name) + 16)[0] for name in (b"mvhd", b"mdhd"))
    place = content.find(b"elst")
    start = struct.unpack_from(">i", content, place + 16)[0] if place > 0 else 0
    table = struct.pack(">II", 0, len(edits)) + b"".join(
        struct.pack(">Iihh", frames * movie // RATE, -1 if first is None else start + first * media // RATE, 1, 0)
        for frames, first in edits
    )
    made = atom(b"edts", atom(b"elst", table))
    whole = []
    for name, part in atoms(content, 0, len(content)):
        if name == b"moov":
            inside = []
            for inner, track in atoms(part, 8, len(part)):
                if inner == b"trak":
                    first, *rest = (piece for kind, piece in atoms(track, 8, len(track)) if kind != b"edts")
                    track = atom(b"trak", first, made, *rest)
                inside.append(track)
            part = atom(b"moov", *inside)
        whole.append(part)
    path.write_bytes(b"".join(whole))
    return path


def by_opencv(path):
    capture, levels = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        levels.append(int(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY)[24, 40]))
    return levels


EDITS = {
    "begins late": ([(10, None), (8, 0)], range(8)),
    "trimmed at its start": ([(5, 3)], range(3, 8)),
    "trimmed at its end": ([(4, 0)], range(4)),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("codec", [("libx264", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_an_edit_list_is_followed_and_loses_nothing(tmp_path, name, codec):
    """As players do; the times begin at the first frame that is shown, and what is edited out is not called damage."""
    edits, shown = EDITS[name]
    path = with_edits(write(tmp_path / "a.mp4", *codec), tmp_path / "edited.mp4", edits)
    clip = read_clip(path)
    levels = clip.frames[:, 24, 40].astype(int)
    assert clip.warnings == () and len(levels) == len(shown)
    assert np.abs(levels - LEVELS[list(shown)]).max() <= 2 and np.abs(levels - by_opencv(path)).max() <= 2
    times = [seconds for _, seconds in timed_frames(path)]
    assert times == pytest.approx(np.arange(len(shown)) / RATE)


def test_a_cut_off_file_with_an_edit_list_is_still_called_so(tmp_path):
    """Its index at the front promises all of its frames."""
    path = write(tmp_path / "a.mp4", movflags="faststart")
    content = path.read_bytes()
    assert b"elst" in content and read_clip(path).warnings == ()
    path.write_bytes(content[:-40])  # of the last frames, which are small
    assert any("damaged or cut short" in warning for warning in read_clip(path).warnings)


@pytest.mark.parametrize("suffix", ["mpg", "mkv", "mp4"])
def test_times_are_counted_from_the_first_frame(tmp_path, suffix):
    """MPEG's begin at half a second, those of a fragmented mp4 at the delay of its decoder."""
    options = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else {}
    codec = ("mpeg1video",) if suffix == "mpg" else ()
    with_rate = write if suffix != "mpg" else write_mpeg
    times = [seconds for _, seconds in timed_frames(with_rate(tmp_path / f"a.{suffix}", *codec, **options))]
    assert times[0] == 0 and np.all(np.diff(times) > 0)


def write_mpeg(path, codec):
    with av.open(str(path), "w", format="mpeg") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for level in LEVELS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 80, 3), level, np.uint8))))
        container.mux(stream.encode(None))
    return path


def small(container):
    """A stream for one small frame."""
    stream = container.add_stream("mjpeg", rate=RATE)
    stream.width, stream.height, stream.pix_fmt = 40, 24, "yuvj420p"
    return stream


def test_a_second_video_is_named(tmp_path):
    clip = read_clip(write(tmp_path / "a.mkv", before=small))
    assert clip.frames.shape == (1, 24, 40)
    assert clip.warnings[0].endswith("holds 2 videos; the first alone is read")


@pytest.mark.parametrize("rotate", [90, 180])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_an_orientation_within_the_stream_holds_for_all_frames(tmp_path, rotate, suffix):
    """It comes with the first frame alone; of 180 degrees, only that one would stand on its head."""
    path = write(tmp_path / "a.mp4")
    with av.open(str(path)) as source, av.open(str(tmp_path / f"b.{suffix}"), "w") as container:
        stream, kept = source.streams.video[0], container.add_stream_from_template(source.streams.video[0])
        options = f"h264_metadata=display_orientation=insert:rotate={rotate}"
        bits = av.BitStreamFilterContext(options, in_stream=stream, out_stream=kept)
        for packet in source.demux(stream):
            for out in bits.filter(packet) if packet.dts is not None else ():
                out.stream = kept
                container.mux(out)
    plain, turned = read_clip(path).frames, read_clip(tmp_path / f"b.{suffix}").frames
    assert np.array_equal(turned, np.rot90(plain, rotate // 90, (1, 2)))
