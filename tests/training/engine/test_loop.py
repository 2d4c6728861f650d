"""A run from the command line and from Python: stopped, resumed, begun again, watched. Its accidents: test_chaos.py."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

from training.data.cache import open_cache
from training.data.errors import CorpusError
from training.data.views.augment import Augment
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.errors import TrainingError
from training.pretrain import Run, main, pretrain
from training.recipes import RECIPES

ROOT = Path(__file__).parents[3]
ARGS = ["--augment.size", "32", "--batch", "6", "--arch", "test_resnet", "--checkpoint-every", "5"]


def arguments(cache, out, steps, *more):
    return ["uscl", "--data", str(cache), "--out", str(out), "--steps", str(steps), *ARGS, *more]


def weights(out, name="checkpoint.pt"):
    return torch.load(out / name, weights_only=True)


def equal(first, second):
    one, other = first["method"], second["method"]
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


def records(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_command_line_stops_when_asked_and_continues_when_repeated(cache, tmp_path, monkeypatch, capsys):
    out, steps = tmp_path / "stopped", 80
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "training.pretrain", *arguments(cache, out, steps)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 90
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    shown = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    assert all(word in shown for word in ("loss=", "views=", "data=")) and re.search(r"<\d\d:\d\d", shown)  # time left
    assert 0 < weights(out)["step"] < steps and weights(out)["step"] == len(records(out))
    monkeypatch.setattr(sys, "argv", ["pretrain", *arguments(cache, out, steps)])
    main()
    assert "done: " in capsys.readouterr().out
    assert [record["step"] for record in records(out)] == list(range(steps))
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == steps and summary["views"] == steps * 6 * 2 and summary["rankme"] > 1
    made_with = json.loads((out / "environment.json").read_text())
    assert made_with["torch"] == torch.__version__ and {"git", "git_changed", "processes"} <= made_with.keys()
    assert len(json.loads((out / "corpus.json").read_text())["frames_sha256"]) == 64
    for curve in ("loss", "rankme"):
        assert (out / f"{curve}.png").read_bytes().startswith(b"\x89PNG")


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
    assert ["validation" in record for record in records(tmp_path)] == [False, True, False, True]
    corpus = json.loads((tmp_path / "corpus.json").read_text())
    assert len(corpus["groups"]) == 4


def test_another_recipe_is_refused_and_the_checkpoint_kept(run, tmp_path):
    pretrain(replace(run, out=tmp_path), "smoke", progress=False)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TrainingError, match="differ in lr"):
        pretrain(replace(run, recipe=replace(run.recipe, lr=1.0), out=tmp_path), "smoke", progress=False)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_run_begins_anew_or_anywhere_if_asked(run, tmp_path):
    run = replace(run, checkpoint_every=1)
    first = pretrain(replace(run, out=tmp_path / "first"), "smoke", progress=False)
    assert weights(first, "checkpoint-1.pt")["step"] == 3
    again = pretrain(replace(run, out=first, resume="never"), "smoke", progress=False)
    assert [record["step"] for record in records(again)] == [0, 1, 2, 3]
    for out in (first, tmp_path / "other"):
        begun = pretrain(replace(run, out=out, resume=first / "checkpoint-1.pt"), "smoke", progress=False)
        assert equal(weights(begun), weights(first))
    assert [record["step"] for record in records(tmp_path / "other")] == [3]
    with pytest.raises(TrainingError, match=r"nowhere\.pt cannot be read"):
        pretrain(replace(run, out=first, resume=first / "nowhere.pt"), "smoke", progress=False)


def test_a_changed_corpus_is_refused(run, cache, tmp_path):
    pretrain(replace(run, out=tmp_path / "run"), "smoke", progress=False)
    other = shutil.copytree(cache, tmp_path / "cache")
    index = json.loads((other / "index.json").read_text())
    (other / "index.json").write_text(json.dumps(index | {"sha256": "0" * 64}))
    with pytest.raises(TrainingError, match=r"corpus 000.* here and .* there"):
        pretrain(replace(run, data=other, out=tmp_path / "run"), "smoke", progress=False)


def test_changed_labels_or_groups_are_refused(run, cache, tmp_path):
    """The frames are the same, and so is their hash."""
    pretrain(replace(run, out=tmp_path / "run"), "smoke", progress=False)
    other = shutil.copytree(cache, tmp_path / "cache")
    text = (other / "index.json").read_text()
    for old, new in (("patient3", "patient2"), ('"label": "b"', '"label": "c"')):
        assert old in text
        (other / "index.json").write_text(text.replace(old, new, 1))
        with pytest.raises(TrainingError, match=r"groups and labels .* here and .* there"):
            pretrain(replace(run, data=other, out=tmp_path / "run"), "smoke", progress=False)


def test_a_run_begins_at_the_weight_that_is_asked_for(run, cache, tmp_path):
    torch.manual_seed(7)
    start = timm.create_model("test_resnet", in_chans=1, num_classes=0)
    save_for_hf(start, tmp_path / "start", safe_serialization=True)
    begun = build(replace(run.recipe, init=f"local-dir:{tmp_path / 'start'}"), 2)
    random = build(run.recipe, 2)
    for name, value in start.state_dict().items():
        assert begun.backbone.state_dict()[name].equal(value)
    assert not random.backbone.conv1[0].weight.equal(start.conv1[0].weight)
    with pytest.raises(TrainingError, match="--init: local-dir:/nowhere could not be loaded"):
        pretrain(replace(run, recipe=replace(run.recipe, init="local-dir:/nowhere"), out=tmp_path / "run"), "smoke")


def test_a_finished_run_keeps_its_record_and_a_best_state_is_not_thrown_away(run, tmp_path):
    watched = replace(run, recipe=replace(run.recipe, validation=0.5), out=tmp_path, checkpoint_every=2)
    pretrain(watched, "smoke", command="the first", progress=False)
    record = (tmp_path / "summary.json").read_bytes()
    pretrain(watched, "smoke", command="the second", progress=False)
    assert (tmp_path / "summary.json").read_bytes() == record
    best = (tmp_path / "best.pt").read_bytes()
    for file in tmp_path.glob("checkpoint*.pt"):
        file.unlink()
    with pytest.raises(TrainingError, match=r"best\.pt is there, but no checkpoint .* --resume never removes it"):
        pretrain(watched, "smoke", progress=False)
    assert (tmp_path / "best.pt").read_bytes() == best


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validation": 1.5}, "--validation is 1.5: give a share below 1"),
        ({"steps": 0}, "--steps is 0: give 1 or more"),
        ({"lr": math.nan}, "--lr is nan: give a number above 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"augment": Augment(size=0)}, "--augment.size is 0"),
        ({"arch": "test_resnot"}, "--arch test_resnot: timm has no such model; test_resnet"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(run, tmp_path, changes, told):
    with pytest.raises(TrainingError, match=told):
        pretrain(replace(run, recipe=replace(run.recipe, **changes), out=tmp_path), "smoke", progress=False)
    with pytest.raises(TrainingError, match="--checkpoint-every is 0: give 1 or more"):
        pretrain(replace(run, checkpoint_every=0, out=tmp_path), "smoke", progress=False)


def test_every_option_of_the_step_trains(run, tmp_path):
    recipe = replace(
        run.recipe, layer_decay=0.8, ema=0.9, accumulate=2, checkpoint_blocks=True, clip_gradient=0.1, optimiser="lamb"
    )
    out = pretrain(replace(run, recipe=recipe, out=tmp_path), "smoke", progress=False)
    state = weights(out)
    assert not equal(state, {"method": {f"backbone.{key}": value for key, value in state["average"].items()}})
    assert records(out)[-1]["gradient"] > 0


def test_a_nan_stops_the_run_before_it_reaches_the_weights(run, cache, tmp_path):
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
    recipe = replace(run.recipe, steps=100, warmup=0.1, lr=1.0)
    data, _ = step_batches(recipe, open_cache(cache))

    def rates(recipe):
        engine = Engine(build(recipe, 2), recipe, data, tmp_path)
        seen = []
        for step in range(100):
            engine.schedule.step_update(step)
            seen.append(engine.optimizer.param_groups[0]["lr"])
        return np.array(seen)

    rising = rates(recipe)
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(90) / 90))
    np.testing.assert_allclose(rising[10:], cosine, atol=1e-6)
    assert (np.diff(rising[:11]) > 0).all()
    held = rates(replace(recipe, hold=True))
    np.testing.assert_allclose(held, np.concatenate([np.ones(10), cosine]), atol=1e-6)


def test_user_errors_are_one_line(cache, tmp_path, monkeypatch, capsys):
    for args, complaint in [
        (arguments(tmp_path, tmp_path / "run", 4), "not a prepared cache"),
        (arguments(cache, tmp_path / "run", 4, "--batch", "1"), "at least 2"),
        (arguments(cache, tmp_path / "run", 4, "--optimiser", "adamm"), "adamm"),
    ]:
        monkeypatch.setattr(sys, "argv", ["pretrain", *args])
        with pytest.raises(SystemExit) as stopped:
            main()
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and err.startswith("error: ") and err.count("\n") <= 2 and complaint in err


def test_too_few_clips_are_refused(run, cache, tmp_path):
    with pytest.raises(CorpusError, match="at least 2"):
        pretrain(replace(run, recipe=replace(run.recipe, batch=1), out=tmp_path), "smoke", progress=False)
