"""One compressed DICOM frame -> its samples: JPEG through Pillow, all else through pydicom's decoders."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from usbackbones.clips.dicom.codestream import Codec, Codestream
from usbackbones.clips.dicom.header import INSTALL
from usbackbones.clips.dicom.pixels import Picture
from usbackbones.clips.dicom.quiet import quiet
from usbackbones.clips.formats.base import PARSER_ERRORS, ClipError

_SYNTAXES: dict[Codec, str] = {
    "lossless JPEG": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "RLE": "1.2.840.10008.1.2.5",
}
# pydicom would take gdcm where it is installed, which ends the whole process on some damaged frames.
_PLUGINS: dict[Codec, str] = {"JPEG-LS": "pyjpegls", "JPEG 2000": "pylibjpeg", "RLE": "pylibjpeg"}
# No decoder for it has a permissive licence and a wheel that the extra could name for all systems.
_REMEDY: dict[Codec, str] = {"lossless JPEG": "pip install python-gdcm"}


def check_decoder(codec: Codec, precision: int, path: Path) -> None:
    """Refuse what cannot be decoded here, by name.

    Raises:
        ClipError: with the line that installs the decoder, where there is one.
    """
    if codec == "JPEG":
        if precision != 8:
            raise ClipError(f"{path}: frames of {precision}-bit JPEG, only 8-bit is read; export it uncompressed")
        return
    from pydicom.pixels import get_decoder

    with quiet():
        available = get_decoder(_SYNTAXES[codec]).is_available
    if not available:
        remedy = _REMEDY.get(codec, INSTALL)
        raise ClipError(f"{path}: frames of {codec}, and no decoder for it is installed; {remedy}")


def decode(content: bytes, stream: Codestream, picture: Picture) -> tuple[np.ndarray, bool] | None:
    """Decode a frame.

    Args:
        content: its bytes.
        stream: what they say of themselves.
        picture: `shape`, `samples`, `allocated` and `stored` as they were found out, none of them None.

    Returns:
        (samples [H, W] or [H, W, 3], whether three are luma and chroma); None where the frame is damaged.
    """
    try:
        with quiet():
            if stream.codec == "JPEG":
                return _jpeg(content, picture)
            samples = _by_pydicom(content, stream, picture)
    except PARSER_ERRORS:
        return None
    return samples, (picture.photometric or "").startswith(("YBR_FULL", "YBR_PARTIAL")) and not stream.rgb


def _jpeg(content: bytes, picture: Picture) -> tuple[np.ndarray, bool]:
    """Gray or RGB by the markers of the stream, as every JPEG viewer has it.

    What DICOM's header says of JPEG color is wrong as often as right, and where it is believed the picture turns
    green. It is believed only for a stream that says nothing itself and has all three components whole, which
    libjpeg would take for luma and chroma.
    """
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        silent = "jfif" not in image.info and "adobe_transform" not in image.info
        components = getattr(image, "layer", ())
        names, whole = bytes(part[0] for part in components), len({part[1:3] for part in components}) == 1
        is_rgb = names == b"rgb" or (names != b"RGB" and whole and picture.photometric == "RGB")
        if image.mode == "RGB" and silent and is_rgb:
            image.draft("YCbCr", image.size)  # libjpeg's word for the components as they are
        return np.array(image), False


def _by_pydicom(content: bytes, stream: Codestream, picture: Picture) -> np.ndarray:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    if picture.shape is None:
        raise ValueError("no shape")
    description: dict[str, Any] = {
        "rows": picture.shape[0],
        "columns": picture.shape[1],
        "samples_per_pixel": picture.samples,
        "bits_allocated": picture.allocated,
        # RLE keeps samples as they were, with bits above and below those that count; pydicom would cut them off.
        "bits_stored": picture.allocated if stream.codec == "RLE" else picture.stored,
        "pixel_representation": int(picture.signed),
        "planar_configuration": 0,
        # The colors are our affair; what stands here must only keep pydicom from touching them.
        "photometric_interpretation": "RGB" if picture.samples == 3 else "MONOCHROME2",
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    source = encapsulate([content], has_bot=False)
    decoder = get_decoder(_SYNTAXES[stream.codec])
    plugin = _PLUGINS.get(stream.codec, "")
    description["decoding_plugin"] = plugin if plugin in decoder.available_plugins else ""
    return decoder.as_array(source, index=0, raw=True, **description)[0]
