"""The bytes of each frame of a DICOM file, one after the other, however the header counts them.

Uncompressed frames stand in a row; compressed ones lie in fragments, one or several a frame. Which fragment begins a
frame is told by its own first bytes and not by the offset tables, so that these may lie or be missing; only where
frames are damaged is the table asked. Never more than a frame is held.
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


def fragment_frames(file: BinaryIO, promised: int) -> Iterator[bytes]:
    """Yield compressed frames from the first item on, damaged ones too, so that each keeps its number.

    A last fragment that is cut short takes its frame with it. `promised` is the header's number of frames.
    """
    starts = _starts(file, promised)
    parts: list[bytes] = []
    for place, fragment in _fragments(file):
        if fragment is None or sum(map(len, parts)) + len(fragment) > _MAX_BYTES:
            return
        if place in starts:
            if parts:
                yield b"".join(parts)
            parts = [fragment]
        elif parts:  # else the table of offsets, which comes first
            parts.append(fragment)
    if parts:
        yield b"".join(parts)


def _starts(file: BinaryIO, promised: int) -> set[int]:
    """Places of the items that begin a frame; the file stays where it is.

    A frame begins with the marker of its codec. Where fewer do than there should be, some are damaged: then each
    fragment is a frame if there are as many, and else the table of offsets is believed, if it names items alone.
    """
    start, items = file.tell(), list[tuple[int, bytes]]()
    place = start
    while len(head := file.read(20)) >= 8 and head.startswith(_ITEM):
        items.append((place, head))
        place += 8 + int.from_bytes(head[4:8], "little")
        file.seek(place)
    file.seek(start)
    marked = {place for place, head in items if starts_frame(head[8:])}
    if not items or len(marked) >= promised or items[0][0] in marked:
        return marked
    table, places = items[0][1], [place for place, _ in items[1:]]
    if len(places) == promised:
        return set(places)
    length = int.from_bytes(table[4:8], "little")
    if places and length == 4 * promised:
        file.seek(start + 8)
        named = {places[0] + int(offset) for offset in np.frombuffer(file.read(length), "<u4")}
        file.seek(start)
        if len(named) == promised and named <= set(places):
            return marked | named
    return marked


def _fragments(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The place of each item, and its content; None stands for one that is cut short, and ends them."""
    place = file.tell()
    while len(head := file.read(8)) == 8 and head.startswith(_ITEM):
        (length,) = struct.unpack("<I", head[4:])
        content = file.read(length) if length <= _MAX_BYTES else b""
        if len(content) < length:
            yield place, None
            return
        yield place, content
        place += 8 + length
    if not head.startswith(_END) and head:
        yield place, None
