"""Features of clips kept in a folder, by the weight's sha256 and the clip's: what was computed once is read afterwards.

An entry is one file that carries its own sha256. A damaged one is removed and computed again.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from usbackbones._files import atomic_write, sha256_of
from usbackbones._version import __version__
from usbackbones.clips.formats.kinds import file_kind
from usbackbones.clips.read import ClipError

_MAGIC = b"usbackbones features 2\n"
_SUM = 32  # bytes of a sha256, the last of an entry
_BLOCK = 1 << 20

Times = tuple[list[float], list[str]]
"""The seconds of each row, and its name: that of the still in a folder or zip, else ""."""


def clip_sum(clip: Path) -> str | None:
    """The sha256 of a clip's content; of a folder that of its files' names and sums, in their order.

    None for a MetaImage header: its pixels may be in a file of any other name.

    Raises:
        ClipError: if it cannot be read.
    """
    try:
        if clip.is_dir():
            told = [(file.name, sha256_of(file)) for file in sorted(clip.iterdir()) if file.is_file()]
            return hashlib.sha256(json.dumps(told).encode()).hexdigest()
        kind = file_kind(clip)
        return None if kind is not None and kind[0] == "metaimage" else sha256_of(clip)
    except OSError as error:
        raise ClipError(f"{clip}: cannot be read ({error.strerror})") from error


class FeatureCache:
    """A folder of entries.

    Attributes:
        hits: clips that were read from here.
        misses: clips that had to be computed.
        mended: entries that were damaged and have been removed; they count as misses too.
    """

    def __init__(self, folder: Path, weight_sum: str, **settings: Any) -> None:
        """Open a folder.

        Args:
            folder: made when the first entry is written.
            weight_sum: sha256 of the weight.
            settings: everything else that the features depend on, in JSON's types; the version of this package is
                added, since readers change.
        """
        self.folder = folder
        self.settings = {"weight": weight_sum, "version": __version__, **settings}
        self.hits = self.misses = self.mended = 0

    def read(self, clip_sum: str, width: int, sink: IO[bytes]) -> Times | None:
        """Append a clip's rows, float32 [T, width], to `sink`; returns the seconds and name of each.

        Without an entry it is None: the sink may have grown then, and is to be cut back.
        """
        file = self._file(clip_sum)
        try:
            with file.open("rb") as stream:
                times = _read_entry(stream, file.stat().st_size, width, sink)
        except FileNotFoundError:
            self.misses += 1
            return None
        except (OSError, ValueError, KeyError, TypeError):
            file.unlink(missing_ok=True)
            self.mended += 1
            self.misses += 1
            return None
        self.hits += 1
        return times

    def write(self, clip_sum: str, times: Times, blocks: Iterator[bytes]) -> None:
        """Keep a clip: its rows' bytes in blocks, and the seconds and name of each row."""
        seconds, names = times
        head = _MAGIC + json.dumps({"seconds": seconds, "names": names}).encode() + b"\n"
        summed = hashlib.sha256(head)
        with atomic_write(self._file(clip_sum)) as stream:
            stream.write(head)
            for block in blocks:
                summed.update(block)
                stream.write(block)
            stream.write(summed.digest())

    def _file(self, clip_sum: str) -> Path:
        told = json.dumps({**self.settings, "clip": clip_sum}, sort_keys=True)
        key = hashlib.sha256(told.encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.features"


def _read_entry(stream: IO[bytes], size: int, width: int, sink: IO[bytes]) -> Times:
    """Copy the rows of an entry while it is summed, so that a long clip is never held; raises if it is damaged."""
    head = stream.read(len(_MAGIC)) + stream.readline()
    if not head.startswith(_MAGIC):
        raise ValueError("no entry")
    about = json.loads(head[len(_MAGIC) :])
    seconds, names = about["seconds"], about["names"]
    left = size - len(head) - _SUM
    if left != 4 * width * len(seconds) or len(names) != len(seconds):
        raise ValueError("of another length")
    summed = hashlib.sha256(head)
    for block in blocks_of(stream, left):
        summed.update(block)
        sink.write(block)
    if stream.read() != summed.digest():
        raise ValueError("not what was written")
    return seconds, names


def blocks_of(stream: IO[bytes], count: int) -> Iterator[bytes]:
    """The next `count` bytes of a stream, a mebibyte at a time."""
    while count and (block := stream.read(min(count, _BLOCK))):
        count -= len(block)
        yield block
