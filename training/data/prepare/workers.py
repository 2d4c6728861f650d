"""Shards made by several processes, side by side."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any

import cv2
from tqdm import tqdm

from training.data.errors import CorpusError
from training.data.prepare.shards import Job, finished, make_shard

Records = Generator[dict[str, Any], None, None]


def shards_made(work: Sequence[Job], jobs: int | None, progress: bool) -> Records:
    """Yield the record of every shard, in order; those that are not finished are made.

    None for `jobs` takes a process a core, 1 works in this one.

    Raises:
        CorpusError: if `jobs` is less than 1, or a process dies.
    """
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    if jobs < 1:
        raise CorpusError(f"jobs is {jobs}, it must be at least 1")
    there = [finished(job) for job in work]
    todo = [job for job, record in zip(work, there, strict=True) if record is None]
    done = sum(len(job.rows) for job, record in zip(work, there, strict=True) if record)
    with (
        closing(_made(todo, min(jobs, len(todo)))) as new,
        tqdm(total=sum(len(job.rows) for job in work), initial=done, unit="clip", disable=not progress) as bar,
    ):
        frames = skipped = 0
        for job, record in zip(work, there, strict=True):
            if record is None:
                record = next(new)
                bar.update(len(job.rows))
            frames += sum(clip["count"] for clip in record["clips"])
            skipped += len(record["skipped"])
            bar.set_postfix(frames=frames, skipped=skipped)
            yield record


def _made(todo: Sequence[Job], jobs: int) -> Records:
    # The shards are what runs side by side. It must be said before a fork: OpenCV's own threads do not survive one.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if jobs <= 1:
            yield from map(make_shard, todo)
            return
        # A new interpreter would first import torch, by way of timm: seconds, in which a core decodes dozens of clips.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with ProcessPoolExecutor(jobs, context, _end_with_parent) as pool:
            yield from pool.map(make_shard, todo)
    except BrokenProcessPool as error:
        raise CorpusError(
            "a process was ended from outside, for lack of memory perhaps; finished shards are kept: "
            f"run the same command again, with fewer than {jobs} --jobs"
        ) from error
    finally:
        cv2.setNumThreads(threads)


def _end_with_parent() -> None:
    """Begin a process of the pool: one whose parent is killed would otherwise wait for work for ever."""
    cv2.setNumThreads(1)  # where the process was not forked
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
