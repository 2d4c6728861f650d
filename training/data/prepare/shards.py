"""A cache in the making: who decides its content, and the shards, each made whole by one process or not at all."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from training.data.cache import FORMAT, shard_file
from training.data.errors import CorpusError
from training.data.manifest import Row
from training.data.prepare.decode import decode
from usbackbones._files import atomic_write
from usbackbones.clips.cleaning.clean import Cleaning
from usbackbones.clips.read import ClipError

_SHARDS, _MOST_CLIPS = 32, 128


@dataclass(frozen=True)
class Plan:
    """All that decides the content of a cache.

    Attributes:
        size: side of the frames, pixels.
        max_frames: most frames of a clip.
        cleaning: its steps; None to keep the frames as they are.
        shard_clips: clips in a shard, those that will be skipped included.
        clips: hash of the clips' names and of how many bytes each has; labels and paths may change.
        format: of the folder.
    """

    size: int
    max_frames: int
    cleaning: dict[str, Any] | None
    shard_clips: int
    clips: str
    format: int = FORMAT


@dataclass(frozen=True)
class Job:
    """One shard to make: clips `rows`, into a folder."""

    out: Path
    number: int
    rows: Sequence[Row]
    plan: Plan
    cleaning: Cleaning | None

    @property
    def file(self) -> Path:
        """Its frames."""
        return shard_file(self.out, self.number)

    @property
    def record_file(self) -> Path:
        """What it holds; written last, so a shard with a record is whole."""
        return self.file.with_suffix(".json")


def plan_of(
    rows: Sequence[Row], size: int, max_frames: int, cleaning: Cleaning | None = None, shard_clips: int | None = None
) -> Plan:
    """The plan for a corpus.

    By default a shard has a 32nd of the clips, but at most 128: enough shards to keep a machine busy, little lost by a
    kill, and few files.

    Raises:
        CorpusError: if a number is less than 1.
    """
    shard_clips = min(-(-len(rows) // _SHARDS), _MOST_CLIPS) if shard_clips is None else shard_clips
    for name, value in {"size": size, "max_frames": max_frames, "shard_clips": shard_clips}.items():
        if value < 1:
            raise CorpusError(f"{name} is {value}, it must be at least 1")
    names = json.dumps([[row.clip, sum(map(_bytes, map(Path, row.paths)))] for row in rows])
    steps = None if cleaning is None else asdict(cleaning)
    return Plan(size, max_frames, steps, shard_clips, hashlib.sha256(names.encode()).hexdigest())


def jobs_of(rows: Sequence[Row], out: Path, plan: Plan, cleaning: Cleaning | None) -> list[Job]:
    """The shards of a corpus."""
    starts = range(0, len(rows), plan.shard_clips)
    return [
        Job(out, number, rows[start : start + plan.shard_clips], plan, cleaning) for number, start in enumerate(starts)
    ]


def make_shard(job: Job) -> dict[str, Any]:
    """Decode the clips of a shard and write it; a clip that cannot be read is skipped.

    Returns:
        Its record: plan, sha256, clips (clip, count, and what `Decoded` tells) and skipped (clip, reason).
    """
    cv2.setNumThreads(1)  # the shards are what runs side by side
    sweep(job.file, job.record_file)
    clips: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    digest = hashlib.sha256()
    with atomic_write(job.file) as stream:
        for row in job.rows:
            try:
                decoded = decode(row.path, job.plan.size, job.plan.max_frames, job.cleaning)
            except ClipError as error:
                skipped.append({"clip": row.clip, "reason": str(error)})
                continue
            stream.write(decoded.frames)
            digest.update(decoded.frames.data)
            clips.append(
                {
                    "clip": row.clip,
                    "count": len(decoded.frames),
                    "seconds_per_frame": decoded.seconds_per_frame,
                    "notes": decoded.notes,
                    "found": decoded.found,
                    "text_frames": decoded.text_frames,
                }
            )
    record = {"plan": asdict(job.plan), "sha256": digest.hexdigest(), "clips": clips, "skipped": skipped}
    with atomic_write(job.record_file, "w", encoding="utf-8") as stream:
        json.dump(record, stream, indent=1)
    return record


def finished(job: Job) -> dict[str, Any] | None:
    """The record of a shard that is there and whole; None if it must be made."""
    if not job.record_file.is_file() or not job.file.is_file():
        return None
    record: dict[str, Any] = json.loads(job.record_file.read_text(encoding="utf-8"))
    frames = sum(clip["count"] for clip in record["clips"])
    return record if job.file.stat().st_size == frames * job.plan.size**2 else None


def refuse_another(out: Path, plan: Plan) -> None:
    """Look at what was begun or finished in a folder.

    Raises:
        CorpusError: if it is a file, or of other clips or options. It is not simply made again, for it may have cost
            days.
    """
    if out.exists() and not out.is_dir():
        raise CorpusError(f"{out} is a file: a cache is a folder, name another place")
    wanted = json.loads(json.dumps(asdict(plan)))
    for file in (out / "index.json", *sorted(out.glob("frames-*.json"))):
        if not file.is_file():
            continue
        try:
            there = json.loads(file.read_text(encoding="utf-8")).get("plan", {"format": 1})
        except ValueError as error:
            raise CorpusError(f"{file} is broken ({error}): give --fresh to make the cache again") from error
        if there != wanted:
            raise CorpusError(
                f"{out} holds another cache ({_differences(there, wanted)}): choose another folder, or give --fresh "
                "to make this one again"
            )


def _differences(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What of two plans differs, in words."""
    if there.get("format") != FORMAT:
        return f"format {there.get('format')}, this version writes {FORMAT}"
    words = {"clips": "of other clips or files", "cleaning": "cleaned otherwise"}
    differ = [name for name in wanted if there.get(name) != wanted[name]]
    told = [words.get(name) or f"{name} {there.get(name)}, not {wanted[name]}" for name in differ]
    return "; ".join(told) or "unpacked from a compact one"


def sweep(*files: Path) -> None:
    """Remove what a killed process left behind of these files: temporary neighbours that `atomic_write` began."""
    for file in files:
        for left in file.parent.glob(f".{file.name}.*.part"):
            left.unlink(missing_ok=True)


def leftovers(out: Path) -> Iterator[Path]:
    """The files in a folder that a finished cache needs no more: records, and what killed processes began."""
    for pattern in ("frames-*.json", ".frames-*.part", ".index.json.*.part", ".report.json.*.part"):
        yield from out.glob(pattern)


def cache_files(out: Path) -> Iterator[Path]:
    """All files in a folder that are a cache's, also of an earlier format or an unfinished one."""
    yield from leftovers(out)
    for pattern in ("index.json", "report.json", "frames*.u8"):
        yield from out.glob(pattern)


def _bytes(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; 0 for what is not there."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
    return path.stat().st_size if path.is_file() else 0
