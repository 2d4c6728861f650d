"""Decode a corpus once: videos -> gray frames in memory-mapped shards, and an index.

    python -m training.data.prepare manifest.csv -o cache/lung --size 224

Training reads frames straight from the shards and never decodes again; `training.data.cache` says what lies in the
folder. The same clips and options make the same bytes, with any number of processes and however often the work was
killed: run the same command again, and it goes on where it stood. On several machines with one folder:

    python -m training.data.prepare manifest.csv -o cache/lung --shard 1/3        (2/3 and 3/3 on the others)
    python -m training.data.prepare manifest.csv -o cache/lung                    (when all are done: writes the index)
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from training.data.cache import Cache, blocks, open_cache, read_index
from training.data.compact import pack
from training.data.errors import CorpusError
from training.data.manifest import Row, read_manifest
from training.data.prepare.glance import estimate, preview
from training.data.prepare.options import Clean, part_of
from training.data.prepare.shards import Job, Plan, cache_files, jobs_of, leftovers, plan_of, refuse_another
from training.data.prepare.workers import shards_made
from usbackbones._files import atomic_write
from usbackbones._words import plural, rounded
from usbackbones.clips.cleaning.clean import Cleaning

_UNCLEANED = Clean()


def prepare(
    rows: Sequence[Row],
    out: Path,
    size: int = 224,
    max_frames: int = 120,
    jobs: int | None = None,
    progress: bool = True,
    cleaning: Cleaning | None = None,
    shard_clips: int | None = None,
) -> Cache:
    """Write the cache of a corpus, see `main` for the options; broken clips are skipped and listed in the index.

    A folder that was begun with the same clips and options is finished, and a finished one only gets the rows of the
    manifest again, for labels and groups do not change the frames. The index is written last, so a killed run leaves no
    cache, but its finished shards.

    Raises:
        CorpusError: if the folder holds a cache of other clips or options, or not one clip could be read.
    """
    plan = plan_of(rows, size, max_frames, cleaning, shard_clips)
    refuse_another(out, plan)
    if (out / "index.json").is_file():
        _write_rows(rows, out)
    else:
        _write_index(rows, out, plan, jobs_of(rows, out, plan, cleaning), jobs, progress)
    for file in leftovers(out):
        file.unlink(missing_ok=True)
    return open_cache(out)


def prepare_part(
    rows: Sequence[Row], out: Path, part: tuple[int, int], plan: Plan, cleaning: Cleaning | None, jobs: int | None
) -> int:
    """Make every n-th shard from the i-th on, for `part` (i, n), and no index: that is for `prepare`, at the end.

    Returns:
        how many shards the part has.

    Raises:
        CorpusError: as `prepare`.
    """
    refuse_another(out, plan)
    work = jobs_of(rows, out, plan, cleaning)[part[0] - 1 :: part[1]]
    if not (out / "index.json").is_file():
        for _ in shards_made(work, jobs, progress=True):
            pass
    return len(work)


def _write_index(rows: Sequence[Row], out: Path, plan: Plan, work: list[Job], jobs: int | None, progress: bool) -> None:
    """Make the shards that are missing, and write the report and the index of all."""
    named = {row.clip: asdict(row) for row in rows}
    clips: list[dict[str, Any]] = []
    shards: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    notes: list[dict[str, Any]] = []
    start, left_out, digest = 0, 0, hashlib.sha256()
    with closing(shards_made(work, jobs, progress)) as records:
        for job, record in zip(work, records, strict=True):
            for block in blocks(job.file):  # here, while the others decode, and not of all frames at the end
                digest.update(block)
            shards.append({"frames": sum(clip["count"] for clip in record["clips"]), "sha256": record["sha256"]})
            skipped += record["skipped"]
            for clip in record["clips"]:
                place = {"start": start, "count": clip["count"], "seconds_per_frame": clip["seconds_per_frame"]}
                clips.append({"row": named[clip["clip"]], **place})
                start += clip["count"]
                left_out += clip.get("found", clip["count"]) - clip["count"]  # an earlier version's shard tells none
                if clip["notes"]:
                    text = {"text_frames": clip["text_frames"]} if clip.get("text_frames") else {}
                    notes.append({"clip": clip["clip"], "notes": clip["notes"], **text})
    if not clips:
        for file in cache_files(out):
            file.unlink()
        raise CorpusError(f"not one of {plural(len(rows), 'clip')} could be read; the first: {skipped[0]['reason']}")
    counts = {"clips": len(rows), "kept": len(clips), "frames": start, "frames_left_out": left_out}
    _write_json(out / "report.json", {**counts, "skipped": skipped, "notes": notes})
    index = {"plan": asdict(plan), "sha256": digest.hexdigest(), "skipped": skipped, "shards": shards, "clips": clips}
    _write_json(out / "index.json", index)


def _write_rows(rows: Sequence[Row], out: Path) -> None:
    """Bring the rows in the index of a finished cache up to the manifest."""
    index, named = read_index(out), {row.clip: asdict(row) for row in rows}
    clips = [{**clip, "row": named[clip["row"]["clip"]]} for clip in index["clips"]]
    if clips != index["clips"]:
        _write_json(out / "index.json", {**index, "clips": clips})


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with atomic_write(file, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)


def main(
    manifest: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    size: int = 224,
    max_frames: int = 120,
    jobs: int | None = None,
    shard: str = "1/1",
    shard_clips: int | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    preview_sheet: Annotated[Path | None, tyro.conf.arg(name="preview")] = None,
    preview_clips: int = 24,
    compact: Path | None = None,
    clean: Clean = _UNCLEANED,
) -> None:
    """Decode a corpus into memory-mapped frames; run it again after a kill, and it goes on.

    Args:
        manifest: CSV or Parquet, made by training.data.corpus.known or by hand.
        out: folder of the cache.
        size: side of the stored frames, pixels.
        max_frames: most frames kept of one clip, evenly spaced.
        jobs: processes that decode; by default one a core.
        shard: i/n makes only the i-th of n parts, for n machines; a call without it then writes the index.
        shard_clips: clips in a file of frames; by default a 32nd of the corpus, at most 128.
        fresh: delete the cache that is in the folder first.
        dry_run: decode a few clips, tell how many frames, bytes and minutes all will take, and stop.
        preview_sheet: write a picture of some clips before and after the cleaning, and stop.
        preview_clips: how many clips it shows.
        compact: also write the cache into this one file, see training.data.compact.
        clean: what is left out of clips, and whether anything is.
    """
    rows, part, steps = read_manifest(manifest), part_of(shard), clean.steps(clean.enabled or preview_sheet is not None)
    cleaning = steps if clean.enabled else None
    plan = plan_of(rows, size, max_frames, cleaning, shard_clips)  # before anything is decoded: it refuses numbers
    if preview_sheet is not None:
        drawn, broken = preview(rows, preview_sheet, preview_clips, max_frames, steps)
        left = f"; {plural(broken, 'clip')} of those chosen could not be read" * bool(broken)
        print(f"{preview_sheet}: {plural(drawn, 'clip')} before and after the cleaning{left}")  # noqa: T201
        return
    if dry_run:
        print(estimate(rows, size, max_frames, cleaning))  # noqa: T201
        return
    if out is None:
        raise CorpusError("name the folder of the cache with -o, or give --dry-run or --preview")
    if fresh and part[1] > 1:
        raise CorpusError("--fresh with --shard would delete what other machines have made: delete the folder yourself")
    if fresh:
        for file in cache_files(out):
            file.unlink(missing_ok=True)
    if part[1] > 1:
        made = prepare_part(rows, out, part, plan, cleaning, jobs)
        print(f"{out}: part {shard} is there, {plural(made, 'shard')}; run it without --shard when all are")  # noqa: T201
        return
    cache = prepare(rows, out, size, max_frames, jobs, True, cleaning, shard_clips)
    for entry in cache.skipped:
        print(f"skipped {entry['clip']}: {entry['reason']}")  # noqa: T201
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report.get("frames_left_out"):
        left = plural(report["frames_left_out"], "frame")
        print(f"{left} left out, beyond --max-frames {max_frames} of a clip")  # noqa: T201
    print(  # noqa: T201
        f"{out}: {len(cache.clips)} of {plural(len(rows), 'clip')}, {plural(len(cache.frames), 'frame')} of {size} px, "
        f"{rounded(len(cache.frames) * size**2 / 1e9, 2)} GB; what was odd is reported in {out / 'report.json'}"
    )
    if compact is not None:
        pack(out, compact)
