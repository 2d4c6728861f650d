"""Known faults of DICOM headers, one by one: a vendor's quirk is one more function here, and a line in `samples`.

Each looks at one promise of the header and what the pixel data are, and gives the picture with the promise mended; what
was wrong goes to `request.warn` in a line. Frame times are checked by `read_clock` in `header`, regions
and their scale in `regions`.
"""

from dataclasses import replace

from usbackbones.clips.dicom.codestream import Codestream
from usbackbones.clips.dicom.pixels import COLOR, GRAY, THINNED, TRANSFORMED, Picture
from usbackbones.clips.dicom.syntaxes import NATIVE
from usbackbones.clips.formats.base import MAX_PIXELS, ClipError, Request


def wrong_syntax(request: Request, syntax: str, fragments: bool) -> None:
    """The transfer syntax says compressed and the frames stand in a row, or the other way round."""
    if fragments == (syntax in NATIVE):
        request.warn(
            f"{request.path}: the transfer syntax is wrong, frames are {'' if fragments else 'not '}compressed"
        )


def wrong_size(request: Request, picture: Picture, stream: Codestream) -> Picture:
    """Rows, Columns and Samples per Pixel are not those of the compressed frames, which know best themselves.

    Raises:
        ClipError: where neither tells a size, or the frames are no gray or color image.
    """
    path, shape = request.path, stream.shape or picture.shape
    samples, precision = stream.samples, stream.precision
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
    return replace(picture, shape=shape, samples=samples, allocated=8 if precision <= 8 else 16)


def whole_chroma(request: Request, picture: Picture, length: int) -> Picture:
    """YBR_FULL_422 is said of uncompressed frames whose chroma was not halved, as their length shows."""
    if picture.photometric == "YBR_FULL_422" and picture.shape and length:
        full = picture.shape[0] * picture.shape[1] * 3 * (picture.frames or 1)
        if length in (full, full + full % 2):
            request.warn(f"{request.path}: the header says YBR_FULL_422, but its chroma is whole; read as YBR_FULL")
            return replace(picture, photometric="YBR_FULL")
    return picture


def colors_of_jpeg_2000(request: Request, picture: Picture) -> Picture:
    """The color transform of JPEG 2000 is said of uncompressed frames."""
    if picture.photometric not in TRANSFORMED:
        return picture
    request.warn(f"{request.path}: the header says {picture.photometric}, which only JPEG 2000 has; read as RGB")
    return replace(picture, photometric="RGB")


def odd_width(request: Request, picture: Picture, length: int) -> int | None:
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


def broken_length(request: Request, size: int, length: int) -> None:
    """The pixel data are no whole number of frames of `size` bytes."""
    if length % size > 1:
        request.warn(
            f"{request.path}: the pixel data are not a whole number of frames; the header may be wrong about the size"
        )


def wrong_high_bit(request: Request, picture: Picture, width: int) -> Picture:
    """High Bit and Bits Stored lie outside of samples of `width` bits: `stored` and `shift` that fit."""
    stored = min(picture.stored or width, width)
    shift = picture.shift if stored == picture.stored and stored < width else 0
    if not 0 <= shift <= width - stored:
        request.warn(f"{request.path}: the header is wrong about High Bit; the lowest {stored} bits were taken")
        shift = 0
    return replace(picture, stored=stored, shift=shift)


def wrong_photometric(request: Request, picture: Picture) -> Picture:
    """The photometric interpretation is missing, or of another number of samples than there are."""
    if picture.photometric in (GRAY if picture.samples == 1 else COLOR):
        return picture
    name = "MONOCHROME2" if picture.samples == 1 else "RGB"
    request.warn(f"{request.path}: the photometric interpretation is missing or wrong; read as {name}")
    return replace(picture, photometric=name)
