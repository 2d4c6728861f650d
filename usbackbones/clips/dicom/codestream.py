"""Codec and size of a compressed DICOM frame, from its first bytes and before it is decoded.

The header of the file around it is believed less: offset tables, frame counts and transfer syntaxes are wrong more
often than the markers that a decoder needs.
"""

import struct
from dataclasses import dataclass
from typing import Literal

Codec = Literal["JPEG", "lossless JPEG", "JPEG-LS", "JPEG 2000", "RLE"]

_J2K = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_LOSSY = (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE)  # between them stand tables, not frames
_JPEG_FRAMES: dict[int, Codec] = {
    0xF7: "JPEG-LS",
    **dict.fromkeys(_LOSSLESS, "lossless JPEG"),
    **dict.fromkeys(_LOSSY, "JPEG"),
}


@dataclass(frozen=True)
class Codestream:
    """What a frame says of itself.

    Attributes:
        codec: who decodes it.
        shape: (rows, columns); None for RLE, which does not tell.
        precision: bits a sample; 0 for RLE.
        samples: 1 or 3 a pixel; RLE counts one for each byte of a sample.
        rgb: True where decoding gives RGB whatever went in, since JPEG 2000 undoes its own color transform.
    """

    codec: Codec
    shape: tuple[int, int] | None
    precision: int
    samples: int
    rgb: bool = False


def starts_frame(head: bytes) -> bool:
    """Whether a fragment with these first 12 bytes begins a frame, and does not go on with one."""
    if head.startswith((b"\xff\xd8\xff", _J2K, _JP2)):
        return True
    return len(head) >= 8 and 1 <= int.from_bytes(head[:4], "little") <= 15 and head[4:8] == b"\x40\x00\x00\x00"


def read_codestream(content: bytes) -> Codestream | None:
    """What this frame says of itself; None where its beginning is damaged."""
    try:
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content.startswith((_J2K, _JP2)):
            return _jpeg_2000(content, content.index(_J2K))
        if starts_frame(content[:12]):
            return Codestream("RLE", None, 0, content[0])
    except (struct.error, IndexError, ValueError):  # it ends before it has told
        pass
    return None


def _jpeg(content: bytes) -> Codestream | None:
    place = 2
    while content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # a byte of padding
            place += 1
            continue
        if marker in _JPEG_FRAMES:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", content, place + 4)
            return Codestream(_JPEG_FRAMES[marker], (rows, columns), precision, samples)
        (length,) = struct.unpack_from(">H", content, place + 2)
        place += 2 + length
    return None


def _jpeg_2000(content: bytes, start: int) -> Codestream:
    length, width, height, left, top = struct.unpack_from(">H2xIIII", content, start + 4)
    samples, depth = struct.unpack_from(">HB", content, start + 40)
    place, transformed = start + 4 + length, False
    while content[place] == 0xFF and content[place + 1] not in (0x90, 0x93):  # tiles and data begin
        if content[place + 1] == 0x52:  # the coding style, with the color transform
            transformed = content[place + 8] == 1
        (length,) = struct.unpack_from(">H", content, place + 2)
        place += 2 + length
    return Codestream("JPEG 2000", (height - top, width - left), (depth & 0x7F) + 1, samples, transformed)
