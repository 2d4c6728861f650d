"""Pixel layouts of stills that are read, by format; every other one is refused by its name.

Pillow opens more than it shows rightly: it takes signed bytes of a TIFF for unsigned ones, samples of 16 bits in planes
for noise, and leaves white on black where 16 bits count from white. So a layout is read only if it stands in this list,
each entry of which is compared with an independent reader by the tests; the verdicts stand in docs/formats.md.
"""

import numpy as np
from PIL import Image

from usbackbones.clips.formats.base import ClipError

LAYOUTS: dict[str, tuple[str, ...]] = {
    # Pillow's names of stored pixels: mode, bits of a sample, byte order.
    "PNG": (
        *("1", "L;2", "L;4", "L", "I;16B", "LA", "LA;16B", "P;1", "P;2", "P;4", "P"),
        *("RGB", "RGB;16B", "RGBA", "RGBA;16B"),
    ),
    "JPEG": ("L", "RGB", "CMYK", "CMYK;I"),
    "BMP": (
        *("1", "P;1", "P;4", "P", "L", "BGR;15", "BGR;16", "BGR"),
        *("BGRX", "XBGR", "BGXR", "BGRA", "RGBA", "ABGR", "BGAR"),
    ),
    # Decoders that give one layout whatever is stored.
    "GIF": ("L", "P", "RGB", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    # PhotometricInterpretation, BitsPerSample, further samples (A is alpha, X unspecified), samples in planes.
    "TIFF": (
        *(f"{zero}IsZero {bits}" for zero in ("White", "Black") for bits in (1, 2, 4, 8, 16)),
        *("BlackIsZero 12", "BlackIsZero 8 A", "BlackIsZero 8 X"),
        *(f"RGB {bits}{more}" for bits in (8, 16) for more in ("", " A", " X")),
        *("RGB 8 in planes", "RGB 8 A in planes", "CMYK 8", "CMYK 16", "CMYK 8 in planes"),
        *(f"Palette {bits}" for bits in (1, 2, 4, 8)),
        "YCbCr 8 JPEG",
    ),
    "HEIF": (),
}
TIFF_COMPRESSIONS = (
    *("raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate", "packbits"),
    *("lzma", "zstd"),
)
"""Pillow's names of those that are read; what the others hold is not plain gray or color."""

_PHOTOMETRIC = {0: "WhiteIsZero", 1: "BlackIsZero", 2: "RGB", 3: "Palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab"}
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_FORMATS = {1: "", 2: " signed", 3: " float", 4: ""}
_EXTRA = {0: "X", 1: "a", 2: "A", 999: "A"}  # a: colors are multiplied by it; 999 is an old mistake of Corel's


def tiff_layout(photometric: int, form: int, bits: tuple[int, ...], extra: tuple[int, ...], planes: bool) -> str:
    """The name of a TIFF's layout, as `LAYOUTS` has it.

    Args:
        photometric: PhotometricInterpretation (262).
        form: SampleFormat (339): 1 unsigned, 2 signed, 3 float.
        bits: BitsPerSample (258).
        extra: ExtraSamples (338); where it is missing, a further sample is alpha, as Pillow and viewers take it.
        planes: PlanarConfiguration (284) is 2.
    """
    name = _PHOTOMETRIC.get(photometric, f"PhotometricInterpretation {photometric}")
    extra = extra or (2,) * (len(bits) - _COLORS.get(photometric, len(bits)))
    depth = "/".join(map(str, dict.fromkeys(bits)))
    more = " " * bool(extra) + "".join(str(_EXTRA.get(each, each)) for each in extra)
    return f"{name} {depth}{_FORMATS.get(form, f' format {form}')}{more}{' in planes' * (planes and len(bits) > 1)}"


def layout_of(image: Image.Image, form: str, name: str) -> str:
    """The layout of the page that is open; ask before its pixels are loaded.

    Args:
        image: opened by Pillow.
        form: its format, a key of `LAYOUTS`; Pillow calls a JPEG of several pictures by another name.
        name: what the error calls it.

    Raises:
        ClipError: if it is not one that is read.
    """
    if form == "TIFF":
        layout = _of_tags(image)
        compression = str(image.info.get("compression", "raw"))
        if compression not in TIFF_COMPRESSIONS:
            raise ClipError(f"{name}: a TIFF whose compression is not read here ({compression}); save it uncompressed")
        layout += " JPEG" * (layout.startswith("YCbCr") and compression == "jpeg")
    elif form in ("PNG", "JPEG", "BMP") and (tiles := getattr(image, "tile", None)):
        arguments = tiles[0].args
        layout = arguments if isinstance(arguments, str) else str(arguments[0])
    else:
        layout = image.mode
    if layout not in LAYOUTS[form]:
        raise ClipError(
            f"{name}: {form} pixels of a layout that is not read here ({layout}); save them as 8-bit gray or RGB"
        )
    return layout


def _of_tags(image: Image.Image) -> str:
    tags = image.tag_v2  # type: ignore[attr-defined]
    forms = set(tags.get(339, (1,)))
    bits = tuple(tags.get(258, (1,)))
    samples = tags.get(277, len(bits))
    bits = bits * samples if len(bits) == 1 else bits
    form = forms.pop() if len(forms) == 1 else 0
    return tiff_layout(tags.get(262, 0), form, bits, tuple(tags.get(338, ())), tags.get(284, 1) == 2)


def sixteen_bits(image: Image.Image, layout: str) -> np.ndarray:
    """Gray uint16 [H, W] of an image of Pillow's mode I;16, over the full range 0..65535, black at 0."""
    values = np.asarray(image).astype(np.uint16) << np.uint16(4 * (layout == "BlackIsZero 12"))
    return 65535 - values if layout.startswith("WhiteIsZero") else values
