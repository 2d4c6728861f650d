"""Processes that are killed: prepare resumes to the same bytes, and leaves nobody behind."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.training.data.prepare.test_prepare import write_video
from training.data.errors import CorpusError
from training.data.manifest import Row
from training.data.prepare.run import prepare

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks up the children of a process in /proc")

CLIPS = 60
DIED = 3


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sixty clips, each of which takes some 10 ms to read; five differ, and two are broken."""
    folder = tmp_path_factory.mktemp("corpus")
    videos = [write_video(folder / f"{number}.avi", 30 + number, size=128, seed=number) for number in range(5)]
    rows = []
    for number in range(CLIPS):
        file = folder / f"clip{number}.avi"
        shutil.copy(videos[number % 5], file)
        if number in (7, 40):
            file.write_bytes(file.read_bytes()[:200])
        rows.append(Row(str(file), file.stem, f"{number}"))
    return rows


@pytest.fixture(scope="module")
def context():
    """Processes that come from one that has imported everything, but neither read nor computed anything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def work(rows, out, jobs):
    """What a process of the tests does: prepare, and tell by its exit code if a process of its own died."""
    try:
        prepare(rows, out, 48, 20, jobs, progress=False, shard_clips=1)
    except CorpusError as error:
        assert "a process was ended from outside" in str(error) and "--jobs" in str(error)
        raise SystemExit(DIED) from error


def begin(context, rows, out, jobs=2):
    process = context.Process(target=work, args=(rows, out, jobs))
    process.start()
    return process


def children(process):
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.002)


def records(out):
    return len(list(out.glob("frames-*.json")))


def reached(process, out, count):
    """Whether a process has begun to write, and so many shards are finished."""
    assert process.exitcode is None, "it was finished before it could be killed: give it more clips"
    return records(out) >= count and any(out.glob(".*.part"))


@pytest.mark.slow
def test_killed_ten_times_it_makes_the_bytes_of_an_unbroken_run(rows, context, tmp_path):
    whole = begin(context, rows, tmp_path / "unbroken", 4)  # not a fork of this process, which may have decoded videos
    whole.join()
    assert whole.exitcode == 0
    draw, out, finished = random.Random(0), tmp_path / "killed", [0]
    for _ in range(10):
        process = begin(context, rows, out)
        wait_for(partial(reached, process, out, finished[-1] + draw.randrange(3)))
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not (out / "index.json").exists()
        finished.append(records(out))
    assert finished == sorted(finished) and len(set(finished)) > 3
    times = {file: file.stat().st_mtime_ns for file in out.glob("*.u8") if file.with_suffix(".json").exists()}
    last = begin(context, rows, out)
    last.join()
    assert last.exitcode == 0 and content(out) == content(tmp_path / "unbroken")
    assert times.items() <= {file: file.stat().st_mtime_ns for file in out.glob("*.u8")}.items()  # none was made twice


def test_a_killed_prepare_takes_its_processes_along(rows, context, tmp_path):
    process = begin(context, rows, tmp_path / "cache", jobs=3)
    wait_for(lambda: (tmp_path / "cache").exists() and len(children(process)) == 3)
    left = children(process)
    process.kill()
    process.join()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() and not zombie(child) for child in left))


def zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_process_that_dies_is_told_and_the_rest_is_kept(rows, context, tmp_path):
    process = begin(context, rows, tmp_path / "cache")
    wait_for(lambda: records(tmp_path / "cache") > 2)
    os.kill(children(process)[0], signal.SIGKILL)
    process.join()
    assert process.exitcode == DIED
    assert records(tmp_path / "cache") > 2 and not (tmp_path / "cache" / "index.json").exists()
