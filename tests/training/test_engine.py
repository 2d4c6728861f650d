"""A run that is killed, stopped, broken or resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.corpus import CorpusError
from training.engine import Engine, TrainingError
from training.pretrain import Run, build, pretrain, step_batches
from training.recipes import RECIPES

ROOT = Path(__file__).parents[2]
ARGS = ["--augment.size", "32", "--batch", "6", "--arch", "test_resnet", "--checkpoint-every", "5"]


def command(cache, out, steps, *more):
    recipe = [sys.executable, "-m", "training.pretrain", "uscl", "--data", cache, "--out", out, "--steps", steps]
    return [str(part) for part in [*recipe, *ARGS, *more]]


def launch(*args):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command(*args), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def weights(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def equal(first, second):
    one, other = first["method"], second["method"]
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the run did not get there"
        time.sleep(0.01)


def steps_logged(out):
    log = out / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_killed_run_continues_to_the_bit(cache, tmp_path):
    unbroken = launch(cache, tmp_path / "unbroken", 30)
    assert unbroken.wait(120) == 0, unbroken.communicate()[1]
    out = tmp_path / "killed"
    killed = launch(cache, out, 30)
    wait_for(lambda: steps_logged(out) >= 5 and (out / "checkpoint.pt").exists(), killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert weights(out)["step"] < 30
    resumed = launch(cache, out, 30)
    assert resumed.wait(120) == 0, resumed.communicate()[1]
    assert equal(weights(out), weights(tmp_path / "unbroken"))
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(30))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 30 and summary["views"] == 30 * 6 * 2
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_saves_and_says_so(cache, tmp_path):
    out = tmp_path / "stopped"
    process = launch(cache, out, 3000)
    wait_for(lambda: steps_logged(out) >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    state = weights(out)
    assert 0 < state["step"] < 3000 and state["step"] == steps_logged(out)


@pytest.fixture
def run(cache):
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch="test_resnet", steps=4, batch=6, augment=replace(recipe.augment, size=32))
    return Run(recipe=recipe, data=cache)


def test_one_seed_gives_one_network_whatever_the_workers(run, tmp_path):
    made = [
        weights(pretrain(replace(run, workers=workers, out=tmp_path / f"{workers}"), "smoke", progress=False))
        for workers in (0, 1, 2)
    ]
    assert equal(made[0], made[1]) and equal(made[0], made[2])
    other = replace(run, recipe=replace(run.recipe, seed=1), out=tmp_path / "other")
    assert not equal(made[0], weights(pretrain(other, "smoke", progress=False)))


def test_validation_watches_groups_that_are_not_trained_on(run, tmp_path):
    watched = replace(run, recipe=replace(run.recipe, validation=0.5), out=tmp_path, checkpoint_every=2)
    pretrain(watched, "smoke", progress=False)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert ["validation" in record for record in records] == [False, True, False, True]
    corpus = json.loads((tmp_path / "corpus.json").read_text())
    assert len(corpus["groups"]) == 4


def test_another_recipe_is_refused_and_the_checkpoint_kept(run, tmp_path):
    pretrain(replace(run, out=tmp_path), "smoke", progress=False)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TrainingError, match="differ in lr"):
        pretrain(replace(run, recipe=replace(run.recipe, lr=1.0), out=tmp_path), "smoke", progress=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_broken_checkpoint_is_named(run, tmp_path):
    pretrain(replace(run, out=tmp_path), "smoke", progress=False)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be read"):
        pretrain(replace(run, out=tmp_path), "smoke", progress=False)


def test_a_nan_stops_the_run_before_it_reaches_the_weights(run, cache, tmp_path):
    from training.data.prepare import open_cache

    opened = open_cache(cache)
    data, _ = step_batches(run.recipe, opened)
    engine = Engine(build(run.recipe, len(opened.classes)), run.recipe, data, tmp_path)
    before = {key: value.clone() for key, value in engine.method.named_parameters()}
    batch = data[0]
    batch.views[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="step 0, clips"):
        engine.train_step(batch)
    assert all(value.equal(before[key]) for key, value in engine.method.named_parameters())


def test_the_rate_rises_and_falls(run, cache, tmp_path):
    from training.data.prepare import open_cache

    recipe = replace(run.recipe, steps=100, warmup=0.1, lr=1.0)
    data, _ = step_batches(recipe, open_cache(cache))

    def rates(recipe):
        engine = Engine(build(recipe, 2), recipe, data, tmp_path)
        seen = []
        for step in range(100):
            engine.schedule.step_update(step)
            seen.append(engine.optimiser.param_groups[0]["lr"])
        return np.array(seen)

    rising = rates(recipe)
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(90) / 90))
    np.testing.assert_allclose(rising[10:], cosine, atol=1e-6)
    assert (np.diff(rising[:11]) > 0).all()
    held = rates(replace(recipe, hold=True))
    np.testing.assert_allclose(held, np.concatenate([np.ones(10), cosine]), atol=1e-6)


def test_user_errors_are_one_line(cache, tmp_path):
    for args, complaint in [
        ((tmp_path, tmp_path / "run", 4), "not a prepared cache"),
        ((cache, tmp_path / "r", 4, "--batch", "1"), "at least 2"),
    ]:
        process = launch(*args)
        _, err = process.communicate(timeout=90)
        assert process.returncode != 0 and "Traceback" not in err and complaint in err


def test_too_few_clips_are_refused(run, cache, tmp_path):
    with pytest.raises(CorpusError, match="at least 2"):
        pretrain(replace(run, recipe=replace(run.recipe, batch=1), out=tmp_path), "smoke", progress=False)
