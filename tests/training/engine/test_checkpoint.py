"""Checkpoints: the last three and the best, whole or not at all, of this run or refused."""

import os
import random

import numpy as np
import pytest
import torch

from training.engine.checkpoint import Checkpoints, fault_of, load, refuse_another
from training.errors import TrainingError
from training.nn.rng import capture, replayed, restore, seed_everything, seed_of_process, torch_state

CPU = torch.device("cpu")


def state(step):
    return {"step": step, "weights": torch.arange(1000.0) + step}


def steps_in(folder):
    return {file.name: load(file, CPU)["step"] for file in folder.glob("*.pt")}


@pytest.fixture
def written(tmp_path):
    """Five states, of which the third was the best."""
    checkpoints = Checkpoints(tmp_path)
    for step in range(5):
        checkpoints.write(state(step), best=step == 2)
    return checkpoints


def test_the_last_three_are_kept_and_the_best(written, tmp_path):
    assert steps_in(tmp_path) == {"checkpoint.pt": 4, "checkpoint-1.pt": 3, "checkpoint-2.pt": 2, "best.pt": 2}
    assert not list(tmp_path.glob(".*"))


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    checkpoints = Checkpoints(tmp_path)
    for step in range(3):
        checkpoints.write(state(step), best=True)
    assert steps_in(tmp_path) == {"checkpoint.pt": 2, "checkpoint-1.pt": 1, "checkpoint-2.pt": 0, "best.pt": 2}
    assert all(file.stat().st_nlink == 1 for file in tmp_path.glob("*.pt"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"<html>",
        lambda content: content.replace(np.float32(504).tobytes(), np.float32(505).tobytes()),
    ],
    ids=["half", "a byte short", "empty", "another file", "one bit"],
)
def test_a_damaged_file_is_noticed_and_passed_over(written, spoil, caplog):
    newest = written.files[0]
    content = newest.read_bytes()
    assert fault_of(newest) is None
    newest.unlink()
    newest.write_bytes(spoil(content))
    assert newest.read_bytes() != content
    assert fault_of(newest)
    assert written.readable() == written.files[1]
    assert f"{newest} cannot be read" in caplog.text


def test_without_any_that_can_be_read_the_remedy_is_told(written):
    for file in written.files:
        file.unlink()
        file.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"checkpoint-2\.pt cannot be read .*--resume never"):
        written.readable()
    assert written.exist()
    written.forget()
    assert not written.exist() and not written.best.exists()


def test_what_is_no_checkpoint_is_no_checkpoint(tmp_path):
    file = tmp_path / "notes.pt"
    file.write_text("hello")
    for wrong in (file, tmp_path / "missing.pt"):
        with pytest.raises(TrainingError, match=r"pt cannot be read \(.*Error\)"):
            load(wrong, CPU)


def test_another_run_is_refused_by_what_differs(tmp_path):
    ours = {"recipe": {"lr": 1, "steps": 5}, "corpus": "aa", "batch": 6}
    refuse_another(tmp_path, {**ours, "step": 3}, ours)
    for theirs, complaint in [
        ({**ours, "recipe": {"lr": 2, "steps": 5}}, "another recipe; they differ in lr"),
        ({**ours, "recipe": {"lr": 1}}, "differ in steps"),
        ({**ours, "corpus": "bb"}, "corpus aa here and bb there"),
        ({**ours, "batch": 4}, "batch 6 here and 4 there"),
        ({}, "differ in lr, steps"),
    ]:
        with pytest.raises(TrainingError, match=complaint):
            refuse_another(tmp_path, theirs, ours)


def drawn():
    def legacy():
        return np.random.rand(), np.random.randn()  # noqa: NPY002 - the generator in question

    return [random.random(), random.gauss(0, 1), *legacy(), *torch.randn(3).tolist()]


def test_every_generator_goes_on_where_it_was():
    seed_everything(3)
    drawn()
    kept = capture(CPU)
    first = drawn()
    assert drawn() != first
    restore(kept, CPU)
    assert drawn() == first


def test_a_replay_draws_the_same_and_leaves_no_trace():
    seed_everything(3)
    kept = torch_state(CPU)
    first, after = torch.randn(3), capture(CPU)
    with replayed(kept, CPU):
        assert torch.randn(3).equal(first)
    assert capture(CPU) == after


def test_processes_have_seeds_of_their_own():
    seeds = {seed_of_process(seed, process) for seed in range(20) for process in range(1, 20)}
    assert len(seeds) == 380 and seed_of_process(7, 0) == 7
