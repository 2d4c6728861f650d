"""The deflated part of a file as a file of its own, inflated as it is read and never as a whole."""

import io
import zlib
from typing import BinaryIO

ZLIB, RAW = zlib.MAX_WBITS, -zlib.MAX_WBITS  # with zlib's header and checksum, or without
_LIMIT = 1 << 32  # bytes; beyond it stands a bomb, or a header that lies
_CHUNK = 1 << 16


class _Inflated(io.RawIOBase):
    """Reads forward; a step backward starts again, which is why `inflated` puts a buffer before it."""

    def __init__(self, file: BinaryIO, start: int, form: int) -> None:
        self._file, self._start, self._form = file, start, form
        self._rewind()

    def _rewind(self) -> None:
        self._file.seek(self._start)
        self._inflate = zlib.decompressobj(self._form)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the end of deflated data is not known before it is read")
        if offset < self._place:
            self._rewind()
        skipped = bytearray(_CHUNK)
        while self._place < offset and self.readinto(memoryview(skipped)[: offset - self._place]):
            pass
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = b""
        while not content and not self._inflate.eof:
            chunk = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            content = self._inflate.decompress(chunk, len(buffer))
            if not chunk:
                break  # cut short: the reader above sees the end of the file
        self._place += len(content)
        if self._place > _LIMIT:
            raise OSError(f"more than {_LIMIT >> 30} GB of inflated data")
        buffer[: len(content)] = content
        return len(content)


def deflate_form(file: BinaryIO, start: int) -> int:
    """ZLIB or RAW, by the two bytes at `start`; a raw block never begins with those of zlib's header."""
    file.seek(start)
    head = file.read(2)
    return ZLIB if len(head) == 2 and head[0] & 0x8F == 8 and int.from_bytes(head, "big") % 31 == 0 else RAW


def inflated(file: BinaryIO, start: int, form: int) -> BinaryIO:
    """What the deflated data from `start` on stands for.

    Args:
        file: seekable; it must not be used for anything else meanwhile.
        start: where the deflated data begin.
        form: ZLIB or RAW.

    Returns:
        A buffered file that reads and seeks from its beginning. It raises `zlib.error` on damaged data, ends early
        where they are cut short, and raises `OSError` beyond 4 GB.
    """
    return io.BufferedReader(_Inflated(file, start, form), _CHUNK)
