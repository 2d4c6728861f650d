"""Kill -9 at any moment, signals in the middle of a write, a full disk, a lost shard, broken files, a batch of NaN.

Nothing is lost but the steps since the last checkpoint, and each says what to do.
"""

import copy
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.training.engine.forks import EVERY, KILLS, METHODS, STEPS, differing, engine_of, recipe_of
from training.data.batches.sampling import StepBatches
from training.engine.checkpoint import fault_of
from training.engine.log import read_journal
from training.errors import TrainingError
from training.pretrain import begin_or_resume

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def out(cache, tmp_path_factory):
    """Where the forked runs were."""
    folder = tmp_path_factory.mktemp("forks") / "out"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.training.engine.forks", str(cache), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(out):
    return json.loads((out / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("world", KILLS)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_continues_to_the_bit(found, method, world):
    kills = [kill for kill in found["kills"] if kill["method"] == method and kill["processes"] == world]
    assert len(kills) == KILLS[world] and len(found["kills"]) >= 20
    for kill in kills:
        assert kill["codes"] == [-signal.SIGKILL] * world
        assert kill["differing"] == []


@pytest.mark.slow
def test_the_comparison_would_see_a_difference(out):
    one, two = out / "uscl-1-unbroken", out / "uscl-2-unbroken"  # the same training, added up in another order
    paths = differing(one, two)
    for part in ("method.backbone", "method.classifier", "optimiser", "average", "generators"):
        assert any(path.startswith(f".{part}") for path in paths), part
    assert not any(path.startswith(".recipe") for path in paths)


@pytest.mark.slow
def test_a_killed_runs_log_has_every_step_once(out):
    for method in METHODS:
        assert [record["step"] for record in read_journal(out / f"{method}-1-killed")] == list(range(STEPS))


@pytest.mark.slow
def test_a_signal_in_the_middle_of_a_write_waits_for_its_end(out, found):
    assert found["sigterm in a write"] == {"code": 75, "half": True}
    folder = out / f"writing-{signal.SIGTERM}"
    assert fault_of(folder / "checkpoint.pt") is None and not list(folder.glob(".*.part"))
    steps = len(read_journal(folder))
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == steps


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_write_leaves_the_state_before(cache, out, found):
    assert found["sigkill in a write"] == {"code": -signal.SIGKILL, "half": True}
    folder = out / f"writing-{signal.SIGKILL}"
    engine = engine_of(recipe_of("uscl", steps=400), cache, folder)
    assert list(folder.glob(".checkpoint.pt.*.part"))
    if engine.checkpoints.exist():
        engine.resume()
    engine.save()
    assert not list(folder.glob(".*.part"))


@pytest.mark.slow
def test_a_signal_to_any_process_stops_all_at_one_step(out, found):
    assert found["stopped"]["codes"] == [75, 75]
    state = torch.load(out / "stopped" / "checkpoint.pt", weights_only=True)
    assert 0 < state["step"] < 400 and state["step"] == len(read_journal(out / "stopped"))


@pytest.fixture(scope="module")
def unbroken(cache, tmp_path_factory):
    """A run of USCL in this process that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    engine = engine_of(recipe_of("uscl"), cache, folder)
    begin_or_resume(engine)
    engine.run(checkpoint_every=EVERY, progress=False)
    return folder


@pytest.fixture
def begun(unbroken, tmp_path):
    """The same run as it was after four steps of six, with the log of the sixth: it was killed after it."""
    folder = tmp_path / "begun"
    folder.mkdir()
    for there, here in [("checkpoint-1", "checkpoint"), ("checkpoint-2", "checkpoint-1")]:
        shutil.copy(unbroken / f"{there}.pt", folder / f"{here}.pt")
    shutil.copy(unbroken / "metrics.jsonl", folder)
    return folder


@contextmanager
def full_disk(folder, room):
    """A folder that only about `room` bytes can be added to: on a small disk, or else no file may grow beyond it."""
    mounted = folder.parent / "small"
    mounted.mkdir()
    size = sum(file.stat().st_size for file in folder.iterdir()) + room
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(mounted)], capture_output=True, check=False
    )
    if not done.returncode:
        try:
            shutil.copytree(folder, mounted / "run")
            yield mounted / "run"
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def finished(cache, folder, data=None):
    """Resume a run in a folder and carry it to its end."""
    engine = engine_of(recipe_of("uscl"), cache, folder)
    engine.resume()
    engine.data = data or engine.data
    engine.run(checkpoint_every=2, progress=False)


def step_of(folder):
    assert fault_of(folder / "checkpoint.pt") is None
    return torch.load(folder / "checkpoint.pt", weights_only=True)["step"]


def test_a_corrupt_checkpoint_gives_way_to_the_one_before(cache, begun, unbroken, caplog):
    file = begun / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    finished(cache, begun)
    assert "checkpoint.pt cannot be read" in caplog.text and "going on from checkpoint-1.pt" in caplog.text
    assert differing(begun, unbroken) == []
    assert [record["step"] for record in read_journal(begun)] == list(range(STEPS))


def test_corrupt_checkpoints_alone_end_the_run(cache, begun):
    for file in begun.glob("*.pt"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read .*checkpoint-1\.pt .*--resume never"):
        finished(cache, begun)


def test_a_shard_that_vanishes_ends_the_run_and_loses_nothing(cache, begun, unbroken, tmp_path):
    copied = shutil.copytree(cache, tmp_path / "cache")
    engine = engine_of(recipe_of("uscl"), copied, begun)
    engine.resume()
    for shard in copied.glob("*.u8"):
        shard.unlink()
    with pytest.raises(
        TrainingError, match=r"views of step 4 cannot be read .*\.u8.*The last state is in .*bring the data"
    ):
        engine.run(checkpoint_every=2, progress=False)
    assert step_of(begun) == 4
    finished(cache, begun)
    assert differing(begun, unbroken) == []


def test_a_shard_that_validation_alone_reads_is_told_as_well(cache, begun, tmp_path):
    """A file that ends too soon is no map of frames; training has its own clips mapped already."""
    copied = shutil.copytree(cache, tmp_path / "cache")
    engine = engine_of(recipe_of("uscl"), copied, begun)
    engine.resume()
    for shard in copied.glob("*.u8"):
        os.truncate(shard, 100)
    with pytest.raises(TrainingError, match=r"\.u8 cannot be read \(.*The last state is in .*bring the data"):
        engine.validate()


class OneBroken(StepBatches):
    """The views of one clip of the sixth batch are NaN."""

    def __getitem__(self, step):
        batch = super().__getitem__(step)
        if step == 5:
            batch.views[0, 2, 0, 3, 3] = float("nan")
            self.culprit = self.cache.clips[batch.clips[2]].row.clip
        return batch


def test_a_batch_of_nan_ends_the_run_and_names_the_clip(cache, begun, unbroken):
    data = copy.copy(engine_of(recipe_of("uscl"), cache, begun).data)
    data.__class__ = OneBroken
    with pytest.raises(TrainingError, match=r"is nan at step 5, clips clip\d\. The last state is in") as error:
        finished(cache, begun, data)
    assert f"clips {data.culprit}." in str(error.value)
    assert step_of(begun) == 4
    finished(cache, begun)
    assert differing(begun, unbroken) == []


def test_a_full_disk_ends_the_run_and_keeps_the_last_state(cache, begun, unbroken):
    with full_disk(begun, room=1_000_000) as folder:
        with pytest.raises(
            TrainingError, match=r"checkpoint\.pt could not be written \(.*\); \d+ MB are free.*make room"
        ):
            finished(cache, folder)
        assert step_of(folder) == 4 and not list(folder.glob(".*.part"))
        if folder != begun:
            shutil.copytree(folder, begun, dirs_exist_ok=True)
    finished(cache, begun)
    assert differing(begun, unbroken) == []
