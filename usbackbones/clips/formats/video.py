"""Videos: mp4, mov, avi, mpeg, webm, mkv, wmv, through FFmpeg."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from PIL import Image

from usbackbones.clips.formats.base import GIVE, ClipError, Facts, Frames, Reading, Request, luma
from usbackbones.clips.formats.upright import matrix_orientation, upright
from usbackbones.clips.formats.watch import Watch

PIXEL_FORMATS: tuple[str, ...] = (
    *("gray", "ya8", "pal8", "monob"),
    *(f"gray{bits}le" for bits in (9, 10, 12, 14, 16)),
    *("gray16be", "ya16le", "ya16be"),
    *("rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "bgr0", "rgb555le", "rgb555be", "rgb565le", "rgb565be"),
    *("rgb48le", "rgb48be", "rgba64le", "rgba64be"),
    *("gbrp", "gbrap", "gbrp9le", "gbrpf32le"),
    *(f"{name}{bits}le" for name in ("gbrp", "gbrap") for bits in (10, 12, 14, 16)),
    *(f"yuv{layout}p" for layout in (410, 411, 420, 422, 440, 444)),
    *(f"yuvj{layout}p" for layout in (411, 420, 422, 440, 444)),
    *(f"yuv{layout}p{bits}le" for layout in (420, 422, 444) for bits in (9, 10, 12, 14, 16)),
    *("yuv440p10le", "yuv440p12le"),
    *(f"yuva{layout}p" for layout in (420, 422, 444)),
    *(f"yuva{layout}p{bits}le" for layout in (420, 422, 444) for bits in (9, 10, 16)),
    *("yuva422p12le", "yuva444p12le"),
    *("yuyv422", "uyvy422", "yvyu422", "nv12", "nv21", "ayuv", "vuya", "uyva", "vyu444"),
    *("y210le", "y216le", "v30xle", "xv30le", "xv48le"),
)
"""FFmpeg's names of the layouts that are read; the tests compare each with an independent reader."""
_PLANAR = tuple(f"{name}{layout}p" for name in ("yuv", "yuvj") for layout in (420, 422, 440, 444))
# Of these FFmpeg makes noise (big-endian as RGB), or a white of 248 (little-endian as gray).
_COARSE = ("rgb555le", "rgb555be", "rgb565le", "rgb565be")
_PALE = 24  # so far from 128, chroma makes at most 78 levels between R, G and B, in any range and by any matrix


def open_video(request: Request, demuxer: str) -> Reading:
    """Open a video; `demuxer` is the name of its container to FFmpeg."""
    facts = Facts()
    return Reading(_frames(request, demuxer, Watch(request, facts)), facts)


def _frames(request: Request, demuxer: str, watch: Watch) -> Frames:
    """Decode. Frames that the decoder knows to be incomplete are dropped and counted."""
    path = request.path
    good = bad = missing = 0
    first: float | None = None
    last: float | None = None
    orientation, reason = 1, ""
    try:
        # "file:" keeps a colon in the name from being taken for a protocol.
        with av.open(f"file:{path}", format=demuxer, metadata_errors="replace") as container:
            stream, others = _streams(container)
            if others:
                request.warn(f"{path}: holds {others + 1} videos; the first alone is read")
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
                    if frame.format.name not in PIXEL_FORMATS:
                        raise ClipError(
                            f"{path}: a video whose pixels are not read here ({frame.format.name}); convert it, for "
                            "example with ffmpeg -pix_fmt yuv420p"
                        )
                    orientation = _orientation(request, frame, orientation)
                    last = frame.time
                    first = last if first is None else first  # a clip that begins late still begins at 0
                    if good % request.stride == 0:
                        if not watch.facts.color and _may_be_vivid(frame):
                            watch.look(_rgb(frame))
                        seconds = None if last is None or first is None else last - first
                        yield upright(_gray(frame), orientation), seconds
                    good += 1
            # Matroska and webm do not count their frames, but they state how long they last.
            rate = stream.average_rate if demuxer == "matroska" and len(container.streams) == 1 else None
            if rate and last is not None and container.duration:
                missing = round((container.duration / av.time_base - last) * rate) - 1
    except av.error.FFmpegError as error:
        reason = f" ({error.strerror})"
    if missing > 0 and demuxer == "mov" and _is_whole_mov(path):  # an edit list leaves frames out, and nothing is lost
        missing = 0
    if not good:
        raise ClipError(f"{path}: broken {demuxer} video, no frame can be decoded{reason}; copy or export it again")
    if bad or reason or missing > 0:
        request.warn(f"{path}: damaged or cut short, {good} frames read, {max(bad, missing)} lost{reason}")


def _gray(frame: av.VideoFrame) -> np.ndarray:
    return luma(Image.fromarray(_rgb(frame))) if frame.format.name in _COARSE else frame.to_ndarray(format="gray")


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """The frame as uint8 [H, W, 3]; pixels of 15 and 16 bits are taken apart here."""
    name = frame.format.name
    if name not in _COARSE:
        return frame.to_ndarray(format="rgb24")
    plane, green = frame.planes[0], int(name[4])  # bits of green; red and blue have 5
    words = np.frombuffer(memoryview(plane), "<u2" if name.endswith("le") else ">u2").astype(np.uint16)
    words = words.reshape(plane.height, -1)[:, : plane.width]
    parts = ((words >> (green + 5)) & 31, (words >> 5) & ((1 << green) - 1), words & 31)
    levels = [part * (255 / ((1 << bits) - 1)) for part, bits in zip(parts, (5, green, 5), strict=True)]
    return np.round(np.stack(levels, -1)).astype(np.uint8)


def _is_whole_riff(path: Path) -> bool:
    """Whether a file is as long as its one RIFF chunk, so that frames it does not hold were never recorded."""
    with path.open("rb") as file:
        length = 8 + int.from_bytes(file.read(8)[4:], "little")
    return length <= path.stat().st_size <= length + 1


def _is_whole_mov(path: Path) -> bool:
    """Whether a file is as long as the atoms in it say, so that nothing was cut off."""
    length = path.stat().st_size
    with path.open("rb") as file:
        while (place := file.tell()) < length:
            head = file.read(16)
            size = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4])
            if size < 8 or place + size > length:  # of 0, up to the end, it does not tell
                return False
            file.seek(place + size)
    return True


def _streams(container: Any) -> tuple[Any, int]:
    """The first video in a container, None where there is none, and how many others; a cover picture is none."""
    moving = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    return (moving[0], len(moving) - 1) if moving else (None, 0)


def _orientation(request: Request, frame: av.VideoFrame, before: int) -> int:
    """How the frame is to be shown, by the display matrix of its track or stream; a slant is refused.

    A matrix within the stream itself comes with the frame from which it holds on; `before` is that of the last frame.
    """
    side_data: Any = frame.side_data  # typed by name, looked up by kind
    matrix = side_data.get(SideData.DISPLAYMATRIX)
    orientation = before if matrix is None else matrix_orientation(bytes(matrix))
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
