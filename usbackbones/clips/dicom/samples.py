"""The frames of a DICOM file as samples, uncompressed or decoded; what the header gets wrong is in `header_faults`."""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from usbackbones.clips.dicom import header_faults as faults
from usbackbones.clips.dicom.codestream import Codestream, read_codestream
from usbackbones.clips.dicom.decode import check_decoder, decode
from usbackbones.clips.dicom.frames import begins_with_item, fragment_frames, native_frames
from usbackbones.clips.dicom.header import Header
from usbackbones.clips.dicom.pixels import COLOR, THINNED, UNREAD_COLOR, Picture
from usbackbones.clips.dicom.syntaxes import NATIVE, UNREAD
from usbackbones.clips.formats.base import ClipError, Request


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
            faults.wrong_syntax(request, header.syntax, fragments)
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
    """The description of compressed frames."""
    settled = faults.wrong_size(request, picture, stream)
    # The bits of a sample; RLE, which does not tell them, keeps whole bytes.
    precision = stream.precision or 8 * (stream.samples // (settled.samples or 1))
    check_decoder(stream.codec, precision, request.path)
    return faults.wrong_photometric(request, faults.wrong_high_bit(request, settled, precision))


def _settle_native(request: Request, header: Header, picture: Picture) -> tuple[Picture, int]:
    """The description of uncompressed frames, and the bytes of each."""
    length = header.length or 0
    picture = faults.colors_of_jpeg_2000(request, faults.whole_chroma(request, picture, length))
    size = faults.odd_width(request, picture, length) or picture.frame_bytes(request.path)
    faults.broken_length(request, size, length)
    samples = picture.samples or (3 if picture.photometric in COLOR else 1)
    settled = faults.wrong_high_bit(request, replace(picture, samples=samples), picture.allocated or 8)
    return faults.wrong_photometric(request, settled), size


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
