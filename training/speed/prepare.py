"""Preparing videos with one process and with several, beside a plain OpenCV script; and reading what was prepared.

    python -m training.speed.prepare ../shared/data

The script is the usual one: cv2.VideoCapture, cv2.resize, cv2.imwrite as JPEG, a folder a clip. It decodes the same
videos, shrinks the same frames to the same size with the same interpolation and may use all cores, as OpenCV does by
itself; it neither hashes nor syncs nor keeps an index. "fast resize" is the same with cv2.resize's default, which
aliases. "all frames" keeps every frame on both sides, "120 a clip" what a cache keeps by default.

All sides take turns; a time is the median of the rounds, wall clock and CPU (all processes). Frames a second count
every frame of the videos, kept or not. A triple is three random frames of a random clip, copied out of the cache, or
opened, decoded and converted by Pillow from the script's JPEG files as the loader of USCL does; both on one core.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from training.data.cache import Cache, open_cache
from training.data.corpora.lung import pocus_lung
from training.data.manifest import Row
from training.data.prepare.run import prepare
from usbackbones._evenly import evenly
from usbackbones.clips.read import iter_frames

SIZE = 224


@dataclass
class Side:
    """One way to prepare, and what its rounds took: (wall, CPU) seconds."""

    name: str
    run: Callable[[Path], object]
    times: list[tuple[float, float]] = field(default_factory=list)

    @property
    def wall(self) -> float:
        """Median wall seconds."""
        return median(wall for wall, _ in self.times)

    @property
    def cpu(self) -> float:
        """Median CPU seconds of all processes."""
        return median(cpu for _, cpu in self.times)


def script(rows: Sequence[Row], counts: Sequence[int], most: int, interpolation: int, out: Path) -> None:
    """The plain script; it is told which frames to keep."""
    for row, count in zip(rows, counts, strict=True):
        keep = set(evenly(count, most).tolist())
        folder = out / row.clip.replace("/", "_")
        folder.mkdir(parents=True)
        video = cv2.VideoCapture(row.path)
        number = 0
        while True:
            there, frame = video.read()
            if not there:
                break
            if number in keep:
                cv2.imwrite(f"{folder}/{number:05d}.jpg", cv2.resize(frame, (SIZE, SIZE), interpolation=interpolation))
            number += 1


def sides(rows: Sequence[Row], counts: Sequence[int], most: int, jobs: int) -> list[Side]:
    """What races: one process, several, and the script with either interpolation."""
    return [
        Side("prepare, 1 job", lambda out: prepare(rows, out, SIZE, most, 1, False)),
        Side(f"prepare, {jobs} jobs", lambda out: prepare(rows, out, SIZE, most, jobs, False)),
        Side("OpenCV script", lambda out: script(rows, counts, most, cv2.INTER_AREA, out)),
        Side("OpenCV script, fast resize", lambda out: script(rows, counts, most, cv2.INTER_LINEAR, out)),
    ]


def race(racing: Sequence[Side], rounds: int, scratch: Path) -> None:
    """Let the sides take turns; what they wrote in the last round stays in `scratch`."""
    for _ in tqdm(range(rounds), unit="round"):
        for side in racing:
            out = scratch / side.name
            shutil.rmtree(out, ignore_errors=True)
            os.sync()  # nobody pays for what another has left to write
            wall, cpu = time.perf_counter(), _cpu()
            side.run(out)
            side.times.append((time.perf_counter() - wall, _cpu() - cpu))


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def table(racing: Sequence[Side], frames: int, title: str) -> str:
    """Seconds, frames a second, and how many times faster several jobs are than each."""
    rows = [f"| {title} | s | CPU s | frames/s | several jobs are faster by |", "|---|---:|---:|---:|---:|"]
    for side in racing:
        rows.append(
            f"| {side.name} | {side.wall:.2f} | {side.cpu:.2f} | {frames / side.wall:.0f} | "
            f"{side.wall / racing[1].wall:.2f} |"
        )
    return "\n".join(rows)


def read_triples(cache: Cache, files: Sequence[Sequence[Path]], rounds: int, each: int = 100) -> tuple[float, float]:
    """Median seconds for a triple out of the cache and out of JPEG files; the two take turns, `each` triples a turn."""
    rng = np.random.default_rng(0)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in tqdm(range(10 * rounds), unit="turn", desc="triples"):
        clips = rng.integers(len(cache.clips), size=each)
        places = [rng.integers(cache.clips[clip].count, size=3) for clip in clips]
        begun = time.perf_counter()
        for clip, place in zip(clips, places, strict=True):
            cache.clip(clip)[place]
        between = time.perf_counter()
        for clip, place in zip(clips, places, strict=True):
            for number in place:
                with Image.open(files[clip][number % len(files[clip])]) as image:
                    image.convert("RGB")
        ours.append((between - begun) / each)
        theirs.append((time.perf_counter() - between) / each)
    return median(ours), median(theirs)


def main(
    data: Annotated[Path, tyro.conf.Positional],
    clips: int | None = None,
    rounds: int = 5,
    jobs: int = 2,
    scratch: Path | None = None,
) -> None:
    """Print the tables.

    Args:
        data: folder that holds pocus_lung/.
        clips: only this many videos, from all over the set.
        rounds: turns of every side.
        jobs: processes of the side with several.
        scratch: where everything is written, a few GB; by default the system's folder for temporary files.
    """
    rows = pocus_lung(data / "pocus_lung")
    rows = [rows[number] for number in evenly(len(rows), clips or len(rows))]
    counts = [sum(1 for _ in iter_frames(row.path)) for row in tqdm(rows, unit="clip", desc="counting")]
    print(f"{len(rows)} videos, {sum(counts)} frames, to {SIZE} px; {rounds} rounds")  # noqa: T201
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for title, most in (("all frames", max(counts)), ("120 a clip", 120)):
            racing = sides(rows, counts, most, jobs)
            race(racing, rounds, Path(folder))
            print("\n" + table(racing, sum(counts), title))  # noqa: T201
        cache = open_cache(Path(folder) / racing[1].name)
        kept = [Path(folder) / "OpenCV script" / clip.row.clip.replace("/", "_") for clip in cache.clips]
        ours, theirs = read_triples(cache, [sorted(clip.iterdir()) for clip in kept], rounds)
    print(  # noqa: T201
        f"\na random triple: {ours * 1e6:.1f} us from the cache, {theirs * 1e6:.0f} us from JPEG files, "
        f"{theirs / ours:.0f} times faster"
    )


if __name__ == "__main__":
    tyro.cli(main)
