"""A prepared corpus, open for reading: frames as memory maps, and the index that says whose they are.

    python -m training.data.cache cache/lung        reads every frame and compares the hashes

The folder, as `training.data.prepare.run` writes it:

    frames-00000.u8    a shard: gray frames uint8 [N, S, S] of the first few clips, one after another
    frames-00001.u8    and so on; no clip is divided
    index.json         how it was made, the clips, their rows of the manifest, and the hashes
    report.json        what was left out or looked odd, for people
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from training.data.errors import CorpusError
from training.data.manifest import Row
from usbackbones._words import plural

FORMAT = 2
"""Of the folder; 1 was one file of frames."""
_OPEN = 256  # shards that are mapped at a time: each holds a file descriptor, and systems give out 1024


@dataclass(frozen=True)
class CachedClip:
    """One clip of a cache: its row of the manifest, and frames [start, start + count) of all."""

    row: Row
    start: int
    count: int
    seconds_per_frame: float | None


@dataclass(frozen=True)
class Shard:
    """One file of frames.

    Attributes:
        file: where it is.
        frames: how many it holds.
        sha256: of the file.
    """

    file: Path
    frames: int
    sha256: str


class Frames:
    """The frames of all shards, numbered through; a shard is mapped when it is first read, in every process again."""

    def __init__(self, shards: Sequence[Shard], size: int) -> None:
        self.shards, self.size = tuple(shards), size
        self._ends = list(accumulate((shard.frames for shard in shards), initial=0))
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # a pickled map would carry its pixels along

    def view(self, start: int, count: int) -> np.ndarray:
        """Frames [start, start + count), uint8 [count, S, S], not copied; they must lie in one shard."""
        number = bisect_right(self._ends, start) - 1
        first = start - self._ends[number]
        return self._mapped(number)[first : first + count]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """These frames, uint8 [F, S, S], copied."""
        found = np.empty((len(numbers), self.size, self.size), np.uint8)
        shards = np.searchsorted(self._ends, numbers, side="right") - 1
        for number in np.unique(shards).tolist():
            here = shards == number
            found[here] = self._mapped(number)[numbers[here] - self._ends[number]]
        return found

    def _mapped(self, number: int) -> np.ndarray:
        """All frames of a shard, uint8 [N, S, S], not copied."""
        if number not in self._maps:
            if len(self._maps) >= _OPEN:
                self._maps.pop(next(iter(self._maps)))  # the longest open; views of it keep it alive
            shard = self.shards[number]
            shape = (shard.frames, self.size, self.size)
            try:
                self._maps[number] = np.memmap(shard.file, np.uint8, "r", shape=shape).view(np.ndarray)
            except (OSError, ValueError) as error:
                raise CorpusError(
                    f"{shard.file} cannot be read ({error}): bring it back, or prepare the corpus again"
                ) from error
        return self._maps[number]


@dataclass(frozen=True)
class Cache:
    """A prepared corpus, open for reading.

    Attributes:
        frames: of all clips.
        clips: one entry a clip, in manifest order.
        size: side S of the frames, pixels.
        sha256: of all frames, one after another, so that a run can say what it was trained on; how they are divided
            into shards does not change it.
        skipped: the clips that were left out, each as {"clip": name, "reason": text}.
    """

    frames: Frames
    clips: list[CachedClip]
    size: int
    sha256: str
    skipped: list[dict[str, str]] = field(default_factory=list)

    def clip(self, index: int) -> np.ndarray:
        """The frames of one clip, uint8 [T, S, S], not copied."""
        entry = self.clips[index]
        return self.frames.view(entry.start, entry.count)

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted; an unlabelled clip has none."""
        return sorted({clip.row.label for clip in self.clips} - {""})


def shard_file(folder: Path, number: int) -> Path:
    """Where the frames of a shard lie; its record, while there is no index yet, has the suffix .json."""
    return folder / f"frames-{number:05d}.u8"


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a prepared folder.

    Raises:
        CorpusError: if there is none, or it is broken or of another format.
    """
    file = folder / "index.json"
    if not file.is_file():
        raise CorpusError(
            f"{folder} is not a prepared cache: make one with python -m training.data.prepare MANIFEST -o {folder}"
        )
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"{file} is broken ({error}): prepare it again with --fresh") from error
    found = index.get("plan", {}).get("format", 1)
    if found != FORMAT:
        raise CorpusError(f"{file} has format {found}, this version reads {FORMAT}: prepare it again with --fresh")
    return dict(index)


def open_cache(folder: Path) -> Cache:
    """Open a prepared folder; that all shards are there and as long as they should be is looked up, see also `verify`.

    Raises:
        CorpusError: if it is no cache, or naming the shards that are missing or of another length.
    """
    index = read_index(folder)
    size = index["plan"]["size"]
    shards = [
        Shard(shard_file(folder, number), entry["frames"], entry["sha256"])
        for number, entry in enumerate(index["shards"])
    ]
    clips = [CachedClip(**{**entry, "row": Row(**entry["row"])}) for entry in index["clips"]]
    _refuse([fault for shard in shards if (fault := _fault(shard, size))], folder)
    return Cache(Frames(shards, size), clips, size, index["sha256"], index["skipped"])


def verify(cache: Cache, progress: bool = True) -> None:
    """Read every frame and compare the hashes.

    Raises:
        CorpusError: naming the shards that are not what they were when the cache was made.
    """
    whole, faults = hashlib.sha256(), []
    for shard in tqdm(cache.frames.shards, unit="shard", desc="verifying", disable=not progress):
        digest = hashlib.sha256()
        for block in blocks(shard.file):
            digest.update(block)
            whole.update(block)
        if digest.hexdigest() != shard.sha256:
            faults.append(f"{shard.file.name} was altered")
    folder = cache.frames.shards[0].file.parent
    _refuse(faults, folder)
    if whole.hexdigest() != cache.sha256:
        _refuse(["index.json was altered: its hash of all frames is another one"], folder)


def blocks(file: Path) -> Iterator[bytes]:
    """The content of a file in pieces of 1 MB."""
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


def _fault(shard: Shard, size: int) -> str:
    """What is wrong with the file of a shard as far as its length tells; empty if nothing is."""
    if not shard.file.is_file():
        return f"{shard.file.name} is missing"
    found, wanted = shard.file.stat().st_size, shard.frames * size * size
    return f"{shard.file.name} has {found} bytes, not {wanted}" if found != wanted else ""


def _refuse(faults: list[str], folder: Path) -> None:
    if faults:
        named = "; ".join(faults[:5]) + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
        raise CorpusError(f"{folder} is damaged: {named}; copy it again, or prepare it again with --fresh")


def main(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Verify a prepared folder: every frame is read, and the hashes are compared.

    Args:
        folder: made by training.data.prepare.run.
    """
    try:
        cache = open_cache(folder)
        verify(cache)
    except CorpusError as error:
        raise SystemExit(f"error: {error}") from error
    print(  # noqa: T201
        f"{folder}: {plural(len(cache.clips), 'clip')}, {plural(len(cache.frames), 'frame')} of {cache.size} px, "
        f"unaltered, {cache.sha256}"
    )


if __name__ == "__main__":
    tyro.cli(main)
