"""A compiled backbone keeps its names, its gradients, and its checkpoints; on the CPU, with dynamo's own backends."""

from dataclasses import replace

import pytest
import torch

from tests.training.small import small_batch
from training.data.cache import open_cache
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build, compile_backbone
from training.recipes import RECIPES


def engine_of(cache, folder, **changes):
    recipe = RECIPES["smoke"][1]
    changes = {"arch": "test_resnet", "steps": 4, "batch": 4, "precision": "fp32", "ema": 0.5} | changes
    recipe = replace(recipe, augment=replace(recipe.augment, size=32), **changes)
    opened = open_cache(cache)
    folder.mkdir(exist_ok=True)
    return Engine(build(recipe, len(opened.classes)), recipe, step_batches(recipe, opened)[0], folder)


@pytest.fixture(autouse=True)
def dynamo():
    """Nothing that is compiled here stays for other tests."""
    yield
    torch._dynamo.reset()


def broken(graph, inputs):
    raise RuntimeError("this compiler is broken")


@pytest.mark.parametrize("backend", [pytest.param("aot_eager", marks=pytest.mark.slow), broken], ids=["aot", "broken"])
def test_names_loss_and_gradients_stay(cache, tmp_path, backend):
    """A backbone that cannot be compiled is run as it is."""
    plain, compiled = (engine_of(cache, tmp_path) for _ in range(2))
    names = list(compiled.method.state_dict())
    compile_backbone(compiled.method.backbone, backend)
    assert list(compiled.method.state_dict()) == names and not any("_orig_mod" in name for name in names)
    batch = small_batch(size=32, labels=(0, 1, 0, 1)).to(plain.device)
    losses = [engine.method.losses(batch)["loss"] for engine in (plain, compiled)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-4)
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


@pytest.mark.gpu
def test_a_compiled_step_on_a_gpu_has_the_loss_and_gradients_of_the_plain_one(cache, tmp_path, gpu):
    plain, compiled = (engine_of(cache, tmp_path, compile=compile_) for compile_ in (False, True))
    batch = plain.data[0].to(gpu)
    losses = [engine.method.losses(batch)["loss"] for engine in (plain, compiled)]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-3)
    for (name, one), other in zip(plain.method.named_parameters(), compiled.method.parameters(), strict=True):
        assert (one.grad - other.grad).norm() <= 0.05 * one.grad.norm() + 1e-4, name
