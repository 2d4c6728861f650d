"""The bytes of each frame of a DICOM file, one after the other, however the header counts them.

Uncompressed frames stand in a row; compressed ones lie in fragments, one or several a frame. Which fragment begins a
frame is told by its own first bytes and not by the offset tables, so that these may lie or be missing. Never more than
a frame is held, and frames that are not whole are not given.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from usbackbones.clips.dicom.codestream import starts_frame

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MAX_BYTES = 1 << 28  # of one frame; a longer fragment is a lie in the file


def begins_with_item(file: BinaryIO) -> bool:
    """Whether fragments begin here; the file stays where it is."""
    place = file.tell()
    head = file.read(4)
    file.seek(place)
    return head == _ITEM


def native_frames(file: BinaryIO, size: int, count: int, swapped: bool) -> Iterator[bytes]:
    """Yield uncompressed frames until the file ends.

    Args:
        file: stands at the first one.
        size: bytes of a frame.
        count: how many there can be.
        swapped: whether bytes stand in pairs the wrong way round, which may join the end of a frame to the next.
    """
    start = file.tell()
    for index in range(count):
        first = index * size
        skip = first % 2 if swapped else 0
        file.seek(start + first - skip)
        content = file.read(skip + size + (skip + size) % 2 if swapped else size)
        if swapped:
            content = np.frombuffer(content[: len(content) // 2 * 2], np.uint16).byteswap().tobytes()
        content = content[skip : skip + size]
        if len(content) < size:
            return
        yield content


def fragment_frames(file: BinaryIO) -> Iterator[bytes]:
    """Yield compressed frames until the fragments end; `file` stands at the first item.

    A last fragment that is cut short takes its frame with it.
    """
    parts: list[bytes] = []
    for fragment in _fragments(file):
        if fragment is None or sum(map(len, parts)) + len(fragment) > _MAX_BYTES:
            return
        if starts_frame(fragment[:12]):
            if parts:
                yield b"".join(parts)
            parts = [fragment]
        elif parts:  # else the table of offsets, which comes first
            parts.append(fragment)
    if parts:
        yield b"".join(parts)


def _fragments(file: BinaryIO) -> Iterator[bytes | None]:
    """The fragments; None stands for one that is cut short, and ends them."""
    while len(head := file.read(8)) == 8 and head.startswith(_ITEM):
        (length,) = struct.unpack("<I", head[4:])
        content = file.read(length) if length <= _MAX_BYTES else b""
        if len(content) < length:
            yield None
            return
        yield content
    if not head.startswith(_END) and head:
        yield None
