"""A compiled backbone keeps its names, its gradients, and its checkpoints; on the CPU, with dynamo's own backends."""

from dataclasses import replace

import pytest
import torch

from tests.training.small import small_batch
from training.data.cache import open_cache
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.recipes import RECIPES


def engine_of(cache, folder, **changes):
    recipe = RECIPES["smoke"][1]
    changes = {"arch": "test_resnet", "steps": 4, "batch": 4, "precision": "fp32", "ema": 0.5} | changes
    recipe = replace(recipe, augment=replace(recipe.augment, size=32), **changes)
    opened = open_cache(cache)
    folder.mkdir(exist_ok=True)
    return Engine(build(recipe, len(opened.classes)), recipe, step_batches(recipe, opened)[0], folder)


@pytest.mark.slow
def test_names_and_gradients_stay(cache, tmp_path):
    plain, compiled = (engine_of(cache, tmp_path) for _ in range(2))
    names = list(compiled.method.state_dict())
    compiled.method.backbone.compile(backend="aot_eager")
    assert list(compiled.method.state_dict()) == names and not any("_orig_mod" in name for name in names)
    batch = small_batch(size=32, labels=(0, 1, 0, 1)).to(plain.device)
    for engine in (plain, compiled):
        engine.method.losses(batch)["loss"].backward()
    for (name, one), other in zip(plain.method.named_parameters(), compiled.method.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("compiled_first", [True, False])
def test_a_run_goes_on_with_or_without_it(cache, tmp_path, deterministic, compiled_first):
    """Half a run compiled, half not, either way round, against a run that never was; moving average included."""
    whole = engine_of(cache, tmp_path / "whole")
    whole.run(progress=False)
    halves = [engine_of(cache, tmp_path / "halves") for _ in range(2)]
    halves[0 if compiled_first else 1].method.backbone.compile(backend="eager")
    begun, ended = halves
    for batch in (begun.data[step] for step in range(2)):
        begun.train_step(batch)
        begun.step += 1
        begun.schedule.step_update(begun.step)
    begun.save()
    ended.resume()
    ended.run(progress=False)
    first, second = whole.method.state_dict(), ended.method.state_dict()
    assert first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
    averages = whole.average.module.state_dict(), ended.average.module.state_dict()
    assert all(averages[0][name].equal(averages[1][name]) for name in averages[0])
