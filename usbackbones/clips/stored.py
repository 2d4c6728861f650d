"""Masks as they are stored: labels, palette indices, colors and transparency, which gray frames would lose."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from usbackbones.clips.dicom.read import open_dicom
from usbackbones.clips.formats.arrays import open_array
from usbackbones.clips.formats.base import PILLOW_ERRORS, ClipError, Request
from usbackbones.clips.formats.kinds import file_kind
from usbackbones.clips.formats.layouts import LAYOUTS, layout_of, sixteen_bits
from usbackbones.clips.formats.metaimage import open_metaimage
from usbackbones.clips.formats.nifti import open_nifti
from usbackbones.clips.formats.zipped import zip_holds
from usbackbones.clips.read import iter_frames

_VOLUMES = {"metaimage": open_metaimage, "nifti": open_nifti, "numpy": open_array}
_LOSSY = ("JPEG", "WEBP")
Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, eq=False)
class Stored:
    """A frame of a mask.

    Attributes:
        values: numbers [H, W], RGB uint8 [H, W, 3] or RGBA uint8 [H, W, 4], upright.
        palette: the color of each number, where a palette colors labels; else empty.
        lossy: whether the file's compression changes values.
    """

    values: np.ndarray
    palette: Palette = ()
    lossy: bool = False


def stored_frames(path: Path) -> Iterator[Stored]:
    """The frames of a mask; volumes and images keep what is stored, DICOM the whole screen, videos gray.

    Raises:
        ClipError: if it cannot be read.
    """
    family, form = file_kind(path) or ("", "")
    if family == "zip" and zip_holds(path) == "arrays":
        family, form = "numpy", "npz"
    if family in _VOLUMES:
        request = Request(path, 1, lambda line: None, stored=True)
        for values, _ in _VOLUMES[family](request, form).frames:
            yield Stored(values)
    elif family == "image":
        yield from _pages(path, form)
    elif family == "dicom":
        for values, _ in open_dicom(Request(path, 1, lambda line: None, crop=False, stored=True), form).frames:
            yield Stored(values)
    else:
        for gray in iter_frames(path, warn=lambda line: None):
            yield Stored(gray, lossy=family == "video")


def run_alike(one: Path, other: Path) -> bool:
    """Whether the axes of two volumes run the same way in space; True where they are of two formats, or one tells none.

    Raises:
        ClipError: if one cannot be read.
    """
    kinds = [file_kind(path) or ("", "") for path in (one, other)]
    family = kinds[0][0]
    if family not in _VOLUMES or kinds[1][0] != family:
        return True
    requests = [Request(path, 1, lambda line: None) for path in (one, other)]
    first, second = (
        _VOLUMES[family](request, form).facts.axes for request, (_, form) in zip(requests, kinds, strict=True)
    )
    return len(first) != len(second) or bool(np.allclose(first, second, rtol=0, atol=0.01))


def _pages(path: Path, form: str) -> Iterator[Stored]:
    if not LAYOUTS[form]:
        raise ClipError(f"{path}: a mask of HEIC or AVIF, not read here; save it as PNG")
    try:
        # Not by its path, for the reason that `formats.stills` has.
        with path.open("rb") as stream, Image.open(stream, formats=[form]) as image:
            for page in range(1) if form == "JPEG" else count():
                try:
                    image.seek(page)
                except EOFError:  # Pillow's way to say that there was no further page
                    return
                # Labels may be numbers of 32 bits, which as gray levels would have no range.
                layout = "" if image.mode in ("I", "F") else layout_of(image, form, str(path))
                yield _page(ImageOps.exif_transpose(image), form, layout)
    except ClipError:
        raise
    except PILLOW_ERRORS as error:
        raise ClipError(f"{path}: broken {form} mask ({' '.join(str(error).split())}); save it again") from error


def _page(image: Image.Image, form: str, layout: str) -> Stored:
    lossy = form in _LOSSY
    palette = _palette(image) if image.mode == "P" else ()
    if any(len(set(color)) > 1 for color in palette):
        # Number 0 is black where a palette colors labels; a GIF's encoder draws up its own.
        plain = form != "GIF" and not any(palette[0])
        return Stored(np.asarray(image), palette) if plain else Stored(np.asarray(image.convert("RGB")))
    if layout == "WhiteIsZero 16":
        return Stored(sixteen_bits(image, layout))
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return Stored(np.asarray(image), lossy=lossy)
    if image.mode == "1" or (image.mode == "P" and not image.has_transparency_data):
        return Stored(np.asarray(image.convert("L")))
    if image.mode == "P" and image.has_transparency_data:
        return Stored(np.asarray(image.convert("RGBA")), lossy=lossy)
    see_through = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    return Stored(np.asarray(image.convert("RGBA" if see_through else "RGB")), lossy=lossy)


def _palette(image: Image.Image) -> Palette:
    flat = image.getpalette() or []
    return tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=False))
