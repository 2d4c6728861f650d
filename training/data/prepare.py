"""Decode a corpus once: videos -> one uint8 memmap and an index.

    python -m training.data.prepare manifest.csv -o cache/lung --size 224

The folder holds `frames.u8`, gray frames [N, S, S] one after another, and `index.json`, which says where each clip
begins. Training reads frames straight from the memmap and never decodes again.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from training.data.corpus import CorpusError, Row, read_manifest
from usbackbones.clips import ClipError, read_clip
from usbackbones.files import atomic_write


@dataclass(frozen=True)
class CachedClip:
    """One clip of a cache: its row of the manifest, and frames [start, start + count) of the memmap."""

    row: Row
    start: int
    count: int
    seconds_per_frame: float | None


@dataclass(frozen=True)
class Cache:
    """A prepared corpus, open for reading.

    Attributes:
        frames: uint8 memmap [N, S, S].
        clips: one entry a clip, in manifest order.
        sha256: of frames.u8, so that a run can say what it was trained on.
    """

    frames: np.ndarray
    clips: list[CachedClip]
    size: int
    sha256: str
    skipped: list[dict[str, str]] = field(default_factory=list)

    def clip(self, index: int) -> np.ndarray:
        """The frames of one clip, uint8 [T, S, S], not copied."""
        entry = self.clips[index]
        return self.frames[entry.start : entry.start + entry.count]

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted; an unlabelled clip has none."""
        return sorted({clip.row.label for clip in self.clips} - {""})


def open_cache(folder: Path) -> Cache:
    """Open a prepared folder.

    Raises:
        CorpusError: if it is no cache, or frames.u8 has not the length that the index tells.
    """
    index_file, frames_file = folder / "index.json", folder / "frames.u8"
    if not index_file.is_file() or not frames_file.is_file():
        raise CorpusError(
            f"{folder} is not a prepared cache: make one with python -m training.data.prepare MANIFEST -o {folder}"
        )
    index = json.loads(index_file.read_text())
    size = index["size"]
    clips = [CachedClip(Row(**entry.pop("row")), **entry) for entry in index["clips"]]
    total = sum(clip.count for clip in clips)
    if frames_file.stat().st_size != total * size * size:
        raise CorpusError(
            f"{frames_file} has {frames_file.stat().st_size} bytes, its index tells {total * size**2}: prepare it anew"
        )
    frames = np.memmap(frames_file, np.uint8, "r", shape=(total, size, size))
    return Cache(frames, clips, size, index["sha256"], index["skipped"])


def decode(path: str, size: int, max_frames: int) -> tuple[np.ndarray, float | None]:
    """Read a clip, keep at most `max_frames` evenly spaced frames, squash each to size x size.

    Returns:
        (frames uint8 [T, size, size], seconds between the frames kept, or None where the file tells no time).
    """
    clip = read_clip(path)
    keep = np.unique(np.linspace(0, len(clip.frames) - 1, min(max_frames, len(clip.frames))).round().astype(int))
    frames = np.stack([cv2.resize(clip.frames[i], (size, size), interpolation=cv2.INTER_AREA) for i in keep])
    if clip.seconds_per_frame is None:
        return frames, None
    return frames, clip.seconds_per_frame * (len(clip.frames) - 1) / max(len(keep) - 1, 1)


def _decode_job(job: tuple[str, int, int]) -> tuple[np.ndarray, float | None] | str:
    """`decode` for a pool: a broken clip comes back as its message, so the others go on."""
    cv2.setNumThreads(1)
    try:
        return decode(*job)
    except ClipError as error:
        return str(error)


def _decoded(rows: list[Row], size: int, max_frames: int, jobs: int) -> Iterator[Any]:
    work = [(row.path, size, max_frames) for row in rows]
    if jobs == 1:
        yield from map(_decode_job, work)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_decode_job, work)


def prepare(
    rows: list[Row], out: Path, size: int = 224, max_frames: int = 120, jobs: int = 2, progress: bool = True
) -> Cache:
    """Write the cache of a corpus; broken clips are skipped and listed in the index.

    Args:
        rows: the corpus.
        out: folder for frames.u8 and index.json; the index is written last, so a killed run leaves no cache.
        size: side of the stored frames in pixels.
        max_frames: most frames kept of one clip.
        jobs: processes that decode.
        progress: show a progress bar.

    Raises:
        CorpusError: if not one clip could be read.
    """
    clips: list[CachedClip] = []
    skipped: list[dict[str, str]] = []
    start, digest = 0, hashlib.sha256()
    (out / "index.json").unlink(missing_ok=True)  # an index never outlives the frames it describes
    with atomic_write(out / "frames.u8") as stream:
        results = _decoded(rows, size, max_frames, jobs)
        for row, result in tqdm(zip(rows, results, strict=True), total=len(rows), unit="clip", disable=not progress):
            if isinstance(result, str):
                skipped.append({"clip": row.clip, "reason": result})
                continue
            frames, seconds = result
            stream.write(frames.tobytes())
            digest.update(frames.tobytes())
            clips.append(CachedClip(row, start, len(frames), seconds))
            start += len(frames)
        if not clips:
            raise CorpusError(f"not one of {len(rows)} clips could be read; the first: {skipped[0]['reason']}")
    index = {
        "size": size,
        "max_frames": max_frames,
        "sha256": digest.hexdigest(),
        "skipped": skipped,
        "clips": [asdict(clip) for clip in clips],
    }
    with atomic_write(out / "index.json", "w") as stream:
        json.dump(index, stream, indent=1)
    return open_cache(out)


def main(
    manifest: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    size: int = 224,
    max_frames: int = 120,
    jobs: int = 2,
) -> None:
    """Decode a corpus into a memmap.

    Args:
        manifest: CSV made by training.data.corpus or by hand.
        out: folder of the cache.
        size: side of the stored frames, pixels.
        max_frames: most frames kept of one clip, evenly spaced.
        jobs: processes that decode.
    """
    cache = prepare(read_manifest(manifest), out, size, max_frames, jobs)
    for entry in cache.skipped:
        print(f"skipped {entry['clip']}: {entry['reason']}")  # noqa: T201
    print(f"{out}: {len(cache.clips)} clips, {len(cache.frames)} frames of {size} px")  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
