"""Videos of every container, codec, pixel format, color matrix and orientation, with OpenCV as judge."""

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from tests.hub.clips.dicom.dicom_files import doppler, speckle
from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.formats.kinds import video_containers
from usbackbones.clips.formats.upright import TURNS
from usbackbones.clips.formats.video import PIXEL_FORMATS

SIZE = (3, 48, 64)
CODECS = {  # by FFmpeg's name of a container, its ending and (codec, pixel format)
    "avi": ("avi", ("rawvideo bgr24", "mjpeg yuvj420p", "mpeg4 yuv420p", "msmpeg4 yuv420p", "huffyuv yuv422p")),
    "mpeg": ("mpg", ("mpeg1video yuv420p", "mpeg2video yuv420p", "mpeg2video yuv422p")),
    "mpegvideo": ("m2v", ("mpeg2video yuv420p",)),
    "matroska": ("mkv", ("libx264 yuv420p", "libvpx yuv420p", "libvpx-vp9 yuv420p", "ffv1 gray", "libx265 gray")),
    "asf": ("wmv", ("wmv1 yuv420p", "wmv2 yuv420p")),
    "mov": ("mov", ("libx264 yuv420p", "libx265 yuv420p", "prores_ks yuv422p10le", "mjpeg yuvj444p", "qtrle rgb24")),
}
# How a pixel format gets into a file, where not by FFV1 in Matroska: codec, ending, and the format to encode from.
_RAW_AVI = ("bgr24", "rgba", "ayuv", "vuya", "uyva", "vyu444", "v30xle", "xv30le", "xv48le", "y210le", "y216le", "nv12")
_RAW_AVI += ("nv21", "yuyv422", "uyvy422", "yvyu422", "rgb555le")
_RAW_MOV = ("abgr", "argb", "rgb24", "rgb48be", "gray16be", "rgb555be", "rgb565le", "rgb565be")
_CARRIERS = {
    **{name: ("rawvideo", "avi", name) for name in _RAW_AVI},
    **{name: ("rawvideo", "mov", name) for name in _RAW_MOV},
    **{name: ("png", "mov", name) for name in ("rgba64be", "ya16be", "monob")},
    **{name: ("jpeg2000", "mkv", name) for name in ("rgb48le", "rgba64le", "ya16le")},
    **{name: ("ljpeg", "avi", name) for name in ("yuvj420p", "yuvj422p", "yuvj444p")},
    **{name: ("ffvhuff", "avi", name) for name in ("gbrp", "gbrap")},
    "pal8": ("qtrle", "mov", "gray"),
}
_COARSE = ("rgb555le", "rgb555be", "rgb565le", "rgb565be")
_MATRICES = {"unspecified": None, "BT.709": 1, "BT.470BG": 5, "SMPTE 170M": 6, "BT.2020": 9}
_RANGES = {"limited": 1, "full": 2}


def layouts():
    """Every container with its codecs, every pixel format, color matrices and ranges, orientations."""
    for name in video_containers():
        yield from ((name, codec) for codec in CODECS.get(name, ("", ("any",)))[1])
    yield from (("pixel format", name) for name in PIXEL_FORMATS)
    yield from ((f"{matrix} matrix", f"{extent} range") for matrix in _MATRICES for extent in _RANGES)
    yield from (("display matrix", f"{suffix}, orientation {number}") for suffix in ("mp4", "mov") for number in TURNS)


def cells(row, column):
    """The files of a layout."""
    if row == "pixel format":
        yield from _pixel_format(column)
    elif row.endswith(" matrix") and row != "display matrix":
        yield _matrix(_MATRICES[row.removesuffix(" matrix")], _RANGES[column.removesuffix(" range")])
    elif row == "display matrix":
        suffix, _, number = column.partition(", orientation ")
        yield _oriented(suffix, int(number))
    else:
        suffix, (codec, form) = CODECS[row][0], column.split()
        for size in (SIZE, (3, 50, 70)):
            frames = np.repeat(speckle(*size)[..., None], 3, -1)
            yield Cell(_writer(codec, suffix, form, frames), by_opencv, 3 if _is_rough(form) else 2)


def _pixel_format(name):
    """In color before what was written, and in gray before OpenCV, which thins chroma its own way."""
    rgb, gray = doppler(*SIZE), np.repeat(speckle(*SIZE)[..., None], 3, -1)
    if name == "monob":
        rgb = gray = (gray > 127).astype(np.uint8) * 255
    if name in ("yuvj411p", "yuvj440p"):
        yield Cell(_motion_jpeg(name, gray), by_opencv, 2)
        return
    codec, suffix, form = _CARRIERS.get(name, ("ffv1", "mkv", name))
    if name in _COARSE:
        yield Cell(_writer(codec, suffix, form, rgb, expect=name), by_words, 1)
        return
    written = luma(rgb)
    yield Cell(_writer(codec, suffix, form, rgb, expect=name), lambda path: written, 1)
    yield Cell(_writer(codec, suffix, form, gray), by_opencv, 3 if _is_rough(name) else 2)


def _is_rough(name):
    """Whether OpenCV comes to gray through thinned chroma of more than 8 bits, which costs it a level more."""
    return name == "y210le" or (name.endswith(("9le", "10le")) and name.startswith("yuv") and "444" not in name)


def by_words(path):
    """Pixels of 15 and 16 bits by their definition, from the words that are stored."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane, form = frame.planes[0], frame.format.name
            words = np.frombuffer(plane, f"{'>' if form.endswith('be') else '<'}u2").reshape(plane.height, -1)
            words, green = words[:, : plane.width].astype(int), 6 if "565" in form else 5
            parts = (words >> green + 5) & 31, (words >> 5) & (1 << green) - 1, words & 31
            shares = np.array([255 / 31, 255 / ((1 << green) - 1), 255 / 31])
            frames.append(luma(np.stack(parts, -1) * shares))
    return np.stack(frames)


def _writer(codec, suffix, form, frames, expect=None, space=None, extent=None):
    def write(folder):
        path = folder / f"a.{suffix}"
        options = {"libx264": {"crf": "10"}, "libx265": {"x265-params": "log-level=none:qp=10"}}.get(codec, {})
        container = "mpeg2video" if suffix == "m2v" else None
        with av.open(str(path), "w", format=container) as output:
            stream = output.add_stream(codec, rate=20, options={"strict": "-2", **options})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], form
            stream.bit_rate, stream.codec_context.thread_count = 8_000_000, 1
            if extent:
                stream.codec_context.color_range = extent
            if space:
                stream.codec_context.colorspace = space
            for frame in frames:
                output.mux(stream.encode(_converted(frame, form, space, extent)))
            output.mux(stream.encode())
        if expect:
            with av.open(str(path)) as container:
                assert next(container.decode(video=0)).format.name == expect
        return path

    return write


def _converted(frame, form, space, extent):
    whole = av.VideoFrame.from_ndarray(frame, format="rgb24")
    if not extent:
        return whole.reformat(format=form)
    matrix = {1: Colorspace.ITU709, 9: 9}.get(space, Colorspace.ITU601)
    frame = whole.reformat(format=form, dst_colorspace=matrix, dst_color_range=ColorRange(extent))
    frame.color_range = extent
    if space:
        frame.colorspace = space
    return frame


def _matrix(space, extent):
    """Whole chroma without loss, so that what was written is the judge."""
    rgb = doppler(*SIZE)
    return Cell(_writer("ffv1", "mkv", "yuv444p", rgb, space=space, extent=extent), lambda path: luma(rgb), 1)


def _motion_jpeg(name, frames):
    """JPEGs of a sampling that only OpenCV writes, in an AVI."""

    def write(folder):
        import cv2

        factor = {"yuvj411p": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411, "yuvj440p": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440}
        path = folder / "a.avi"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("mjpeg", rate=20)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuvj420p"
            for index, frame in enumerate(frames):
                options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor[name], cv2.IMWRITE_JPEG_QUALITY, 95]
                packet = av.Packet(cv2.imencode(".jpg", frame, options)[1].tobytes())
                packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, index, index, True
                packet.time_base = stream.codec_context.time_base or 1 / stream.average_rate
                output.mux(packet)
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).format.name == name
        return path

    return write


def by_opencv(path):
    """Frames as OpenCV's own FFmpeg decodes and converts them."""
    import cv2

    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(luma(read[1][..., ::-1]))
    return np.stack(frames)


def _oriented(suffix, number):
    """OpenCV turns by right angles; of mirrored frames it shows what is stored, which the slow form turns."""
    from tests.hub.clips.test_upright import MATRICES, slow_turn, write_turned

    def judge(path):
        frames = by_opencv(path)
        return frames if number in (1, 3, 6, 8) else np.stack([slow_turn(stored(path), MATRICES[number])] * 3)

    def stored(path):
        import cv2

        capture = cv2.VideoCapture(str(path))
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        return luma(capture.read()[1][..., ::-1])

    return Cell(lambda folder: write_turned(folder / f"a.{suffix}", MATRICES[number]), judge, 2)
