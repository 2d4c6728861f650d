"""The frames of a DICOM file as samples, uncompressed or decoded, and what the header got wrong about them."""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from usbackbones.clips.dicom.codestream import Codestream, read_codestream
from usbackbones.clips.dicom.decode import check_decoder, decode
from usbackbones.clips.dicom.frames import begins_with_item, fragment_frames, native_frames
from usbackbones.clips.dicom.header import Header
from usbackbones.clips.dicom.pixels import COLOR, GRAY, THINNED, TRANSFORMED, UNREAD_COLOR, Picture
from usbackbones.clips.dicom.syntaxes import NATIVE, UNREAD
from usbackbones.clips.formats.base import MAX_PIXELS, ClipError, Request


@dataclass(frozen=True)
class Sampled:
    """One frame.

    Attributes:
        picture: the description, with what was found out in the place of what was wrong or missing.
        samples: uint8, uint16 or int16, [H, W] or [H, W, 3].
        luminance: whether the three samples are luma and chroma (full range BT.601), and not RGB.
    """

    picture: Picture
    samples: np.ndarray
    luminance: bool


def sampled_frames(request: Request, header: Header, picture: Picture) -> Generator[Sampled | None, None, None]:
    """Yield every frame that is there whole: None for one that is damaged, or left out by the stride.

    Raises:
        ClipError: where the header does not tell how to read them, or their decoder is missing.
    """
    path = request.path
    if header.syntax in UNREAD:
        raise ClipError(f"{path}: {UNREAD[header.syntax]}, not read here; export it uncompressed, as JPEG or as mp4")
    if picture.photometric in UNREAD_COLOR:
        raise ClipError(f"{path}: colors of {picture.photometric}, not read here; export it as RGB")
    try:
        with path.open("rb") as file:
            pixels = header.open_pixels(file)
            fragments = header.length is None or (header.syntax not in NATIVE and begins_with_item(pixels))
            if fragments == (header.syntax in NATIVE):
                request.warn(
                    f"{path}: the transfer syntax is wrong, frames are {'' if fragments else 'not '}compressed"
                )
            if fragments:
                yield from _compressed(request, picture, fragment_frames(pixels, picture.frames or 1))
            else:
                picture, size = _settle_native(request, header, picture)
                length = header.length or 0
                padded = length % 2 == 0 and length - 1 == size * (picture.frames or 1)
                most = (length - padded) // size
                contents = native_frames(pixels, size, most, header.swapped)
                for index, content in enumerate(contents):
                    yield None if index % request.stride else _native(content, header, picture)
    except (zlib.error, OSError):  # damaged further on: the frames until here are there, the count tells the rest
        return


def _compressed(request: Request, picture: Picture, contents: Iterator[bytes]) -> Iterator[Sampled | None]:
    first: Codestream | None = None
    for index, content in enumerate(contents):
        stream = read_codestream(content)
        if first is None and stream is not None:
            first, picture = stream, _settle(request, stream, picture)
        # A frame of another size than the first is damaged: within one file all have one size.
        alike = first and stream and replace(stream, rgb=first.rgb) == first
        found = decode(content, stream, picture) if stream and alike and index % request.stride == 0 else None
        yield Sampled(picture, *found) if found else None


def _settle(request: Request, stream: Codestream, picture: Picture) -> Picture:
    """The description of compressed frames: they know best themselves."""
    path = request.path
    shape, samples, precision = stream.shape or picture.shape, stream.samples, stream.precision
    if stream.codec == "RLE":
        samples = picture.samples or (3 if picture.photometric in COLOR else 1)
        precision = 8 * (stream.samples // samples)
    if shape is None or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
        raise ClipError(f"{path}: the DICOM header tells no Rows and Columns that can be; export it again")
    if samples not in (1, 3) or not 1 <= precision <= 16:
        raise ClipError(
            f"{path}: frames of {samples} samples of {precision} bits, which is no picture; export it again"
        )
    if picture.shape not in (None, shape):
        request.warn(f"{path}: the header is wrong about the size, the frames have {shape[1]}x{shape[0]} pixels")
    check_decoder(stream.codec, precision, path)
    allocated = 8 if precision <= 8 else 16
    settled = replace(picture, shape=shape, samples=samples, allocated=allocated)
    return _named(request, _placed(request, settled, precision))


def _settle_native(request: Request, header: Header, picture: Picture) -> tuple[Picture, int]:
    """The description of uncompressed frames, and the bytes of each."""
    path, length = request.path, header.length or 0
    if picture.photometric == "YBR_FULL_422" and picture.shape and length:
        full = picture.shape[0] * picture.shape[1] * 3 * (picture.frames or 1)
        if length in (full, full + full % 2):
            request.warn(f"{path}: the header says YBR_FULL_422, but its chroma is whole; read as YBR_FULL")
            picture = replace(picture, photometric="YBR_FULL")
    if picture.photometric in TRANSFORMED:
        request.warn(f"{path}: the header says {picture.photometric}, which only JPEG 2000 has; read as RGB")
        picture = replace(picture, photometric="RGB")
    size = _odd_bytes(request, picture, length) or picture.frame_bytes(path)
    if length % size > 1:
        request.warn(f"{path}: the pixel data are not a whole number of frames; the header may be wrong about the size")
    samples = picture.samples or (3 if picture.photometric in COLOR else 1)
    allocated = picture.allocated or 8
    return _named(request, _placed(request, replace(picture, samples=samples), allocated)), size


def _odd_bytes(request: Request, picture: Picture, length: int) -> int | None:
    """Bytes of an uncompressed frame of odd width whose neighbors share their chroma; None for all other frames.

    DICOM wants an even width. Some writers add a column, others let pairs go on into the next row: the length of the
    pixel data says which.

    Raises:
        ClipError: where the length fits neither.
    """
    if picture.photometric not in THINNED or not picture.shape or picture.shape[1] % 2 == 0:
        return None
    rows, columns = picture.shape
    for size in (rows * (columns + 1) * 2, rows * columns * 2):
        if size % 4 == 0 and length == size * (picture.frames or 1):
            return size
    raise ClipError(
        f"{request.path}: {picture.photometric} of the odd width {columns}, and its length fits no layout; "
        "export it as RGB"
    )


def _placed(request: Request, picture: Picture, width: int) -> Picture:
    """The picture with `stored` and `shift` that fit into samples of `width` bits."""
    stored = min(picture.stored or width, width)
    shift = picture.shift if stored == picture.stored and stored < width else 0
    if not 0 <= shift <= width - stored:
        request.warn(f"{request.path}: the header is wrong about High Bit; the lowest {stored} bits were taken")
        shift = 0
    return replace(picture, stored=stored, shift=shift)


def _named(request: Request, picture: Picture) -> Picture:
    """The picture with a photometric interpretation that fits its samples."""
    fitting = GRAY if picture.samples == 1 else COLOR
    if picture.photometric in fitting:
        return picture
    name = "MONOCHROME2" if picture.samples == 1 else "RGB"
    request.warn(f"{request.path}: the photometric interpretation is missing or wrong; read as {name}")
    return replace(picture, photometric=name)


def _native(content: bytes, header: Header, picture: Picture) -> Sampled:
    """Uncompressed bytes of one frame as samples."""
    rows, columns = picture.shape or (0, 0)
    if picture.photometric in THINNED:  # two pixels in four bytes: luma, luma, and the chroma of both
        quads = np.frombuffer(content, np.uint8).reshape(-1, 2, 2)
        pixels = np.concatenate([quads[:, 0].reshape(-1, 1), quads[:, 1].repeat(2, axis=0)], axis=1)
        return Sampled(picture, pixels.reshape(rows, -1, 3)[:, :columns], True)
    order = "<" if header.little else ">"
    samples = np.frombuffer(content, f"{order}u{(picture.allocated or 8) // 8}")
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if picture.samples != 3:
        return Sampled(picture, samples.reshape(rows, columns), False)
    if picture.planes:
        samples = samples.reshape(3, rows, columns).transpose(1, 2, 0)
    return Sampled(picture, samples.reshape(rows, columns, 3), picture.photometric == "YBR_FULL")
