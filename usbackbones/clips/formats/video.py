"""Videos: mp4, mov, avi, mpeg, webm, mkv, wmv, through FFmpeg."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData

from usbackbones.clips.formats.base import GIVE, ClipError, Facts, Frames, Reading, Request
from usbackbones.clips.formats.upright import matrix_orientation, upright
from usbackbones.clips.formats.watch import Watch

_PLANAR = tuple(f"{name}{layout}p" for name in ("yuv", "yuvj") for layout in (420, 422, 440, 444))
_PALE = 24  # so far from 128, chroma makes at most 78 levels between R, G and B, in any range and by any matrix


def open_video(request: Request, demuxer: str) -> Reading:
    """Open a video; `demuxer` is the name of its container to FFmpeg."""
    facts = Facts()
    return Reading(_frames(request, demuxer, Watch(request, facts)), facts)


def _frames(request: Request, demuxer: str, watch: Watch) -> Frames:
    """Decode. Frames that the decoder knows to be incomplete are dropped and counted."""
    path = request.path
    good = bad = missing = 0
    last: float | None = None
    reason = ""
    try:
        # "file:" keeps a colon in the name from being taken for a protocol.
        with av.open(f"file:{path}", format=demuxer, metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None:
                raise ClipError(f"{path}: {'unknown codec' if stream else 'no video stream'} in it; {GIVE}")
            # Threads gain nothing on frames of this size, and cost much where many processes read at once.
            stream.codec_context.thread_count = 1
            missing = stream.frames  # what the header promises; 0 where it does not say
            whole = demuxer == "avi" and _is_whole_riff(path)
            for packet in container.demux(stream):
                if demuxer != "avi":
                    missing -= packet.size > 0
                elif packet.dts is not None:  # it counts frames, and those among them that the recorder dropped
                    missing = 0 if whole else stream.frames - packet.dts - 1
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    bad += 1
                    continue
                for frame in decoded:
                    if frame.is_corrupt:
                        bad += 1
                        continue
                    if good % request.stride == 0:
                        if not watch.facts.colour and _may_be_vivid(frame):
                            watch.look(frame.to_ndarray(format="rgb24"))
                        yield upright(frame.to_ndarray(format="gray"), _orientation(request, frame)), frame.time
                    good, last = good + 1, frame.time
            # Matroska and webm do not count their frames, but they state how long they last.
            rate = stream.average_rate if demuxer == "matroska" and len(container.streams) == 1 else None
            if rate and last is not None and container.duration:
                missing = round((container.duration / av.time_base - last) * rate) - 1
    except av.error.FFmpegError as error:
        reason = f" ({error.strerror})"
    if not good:
        raise ClipError(f"{path}: broken {demuxer} video, no frame can be decoded{reason}; copy or export it again")
    if bad or reason or missing > 0:
        request.warn(f"{path}: damaged or cut short, {good} frames read, {max(bad, missing)} lost{reason}")


def _is_whole_riff(path: Path) -> bool:
    """Whether a file is as long as its one RIFF chunk, so that frames it does not hold were never recorded."""
    with path.open("rb") as file:
        length = 8 + int.from_bytes(file.read(8)[4:], "little")
    return length <= path.stat().st_size <= length + 1


def _orientation(request: Request, frame: av.VideoFrame) -> int:
    """How the frame is to be shown, by the display matrix of its track or its stream.

    Raises:
        ClipError: where it is turned by less than a right angle.
    """
    side_data: Any = frame.side_data  # typed by name, looked up by kind
    matrix = side_data.get(SideData.DISPLAYMATRIX)
    orientation = 1 if matrix is None else matrix_orientation(bytes(matrix))
    if orientation is None:
        raise ClipError(
            f"{request.path}: a video to be shown at a slant of {frame.rotation} degrees; write its frames upright, "
            "for example with ffmpeg -i"
        )
    return orientation


def _may_be_vivid(frame: av.VideoFrame) -> bool:
    """False where the chroma alone shows that no pixel is, which spares most frames the conversion to RGB."""
    if frame.format.name not in _PLANAR:
        return frame.format.has_palette or len(frame.format.components) > 1
    chroma = [np.frombuffer(memoryview(plane), np.uint8) for plane in frame.planes[1:]]
    return any(plane.max() > 128 + _PALE or plane.min() < 128 - _PALE for plane in chroma)
