"""NumPy arrays: .npy, and .npz with one array or one named "frames"; never anything pickled."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from usbackbones._words import plural
from usbackbones.clips.formats.base import ClipError, Reading, Request
from usbackbones.clips.formats.volume import Volume, check_volume, read_volume

_ERRORS = (
    *(OSError, ValueError, EOFError, LookupError, SyntaxError, TypeError, RuntimeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def open_array(request: Request, form: str) -> Reading:
    """Open a .npy or .npz array [T, H, W], [H, W], or either with three colors as its last axis.

    Raises:
        ClipError: if it is no such array, or damaged.
    """
    path = request.path

    @contextmanager
    def content() -> Iterator[BinaryIO]:
        with path.open("rb") as file:
            if form == "npy":
                yield file
                return
            with zipfile.ZipFile(file) as archive, archive.open(_member(request, archive)) as member:
                yield member  # type: ignore[misc]

    @contextmanager
    def voxels() -> Iterator[BinaryIO]:
        with content() as stream:
            _read_header(stream)
            yield stream

    try:
        with content() as stream:
            shape, fortran, dtype = _read_header(stream)
    except ClipError:
        raise
    except _ERRORS as error:
        raise ClipError(f"{path}: damaged {form} file ({type(error).__name__}); save it again") from error
    if fortran and len(shape) > 1:
        raise ClipError(f"{path}: an array in Fortran order cannot be streamed; save it as np.ascontiguousarray")
    channels = 3 if len(shape) > 2 and shape[-1] == 3 else 1
    if channels == 1 and len(shape) > 3 and shape[1] != 1 and shape[-1] != 1:
        sizes = " x ".join(map(str, shape))
        raise ClipError(
            f"{path}: an array of {sizes} is no clip; save it as frames x rows x columns, or with x 3 for RGB"
        )
    if len(shape) == 3 and all(shape) and shape[-1] in (1, 2, 4):
        sizes = " x ".join(map(str, shape))
        raise ClipError(
            f"{path}: an array of {sizes} could be one image with {plural(shape[-1], 'channel')} or "
            f"{plural(shape[0], 'frame')} of {plural(shape[-1], 'column')}; save gray as rows x columns, color with x 3"
        )
    if shape[:1] == (3,) and len(shape) == 3 and channels == 1:
        request.warn(
            f"{path}: 3 x {shape[1]} x {shape[2]} was read as three gray frames; if it is RGB, move its first axis last"
        )
    if channels == 3 or (len(shape) == 4 and shape[-1] == 1):
        shape = shape[:-1]
    frames = check_volume(request, dtype, shape[::-1], channels)
    return read_volume(request, Volume(voxels, dtype, frames, channels))


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, dtype); the stream then stands at the first value."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("a version for structured arrays")
    return npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)


def _member(request: Request, archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    wanted = names[0] if len(names) == 1 else "frames.npy"
    if wanted not in names:
        held = ", ".join(name.removesuffix(".npy") for name in names[:5])
        raise ClipError(f"{request.path}: none of its {len(names)} arrays ({held}) is called frames; save it as such")
    return wanted
