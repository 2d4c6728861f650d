"""One seed, one network: every recipe, whatever the number of loader workers."""

from dataclasses import replace

import pytest

from training.data.cache import open_cache
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.methods.hico import HiCo
from training.methods.meta_uscl import MetaUSCL
from training.recipes import RECIPES


def tiny(recipe):
    """Three steps at 32 px on a small network; all that makes a recipe special stays."""
    method = recipe.method
    if isinstance(method, HiCo):
        method = replace(method, flatten_size=32, pyramid_width=4)
    if isinstance(method, MetaUSCL):
        method = replace(method, meta_share=0.5)
    augment = replace(recipe.augment, size=32)
    small = {"arch": "test_resnet", "init": "", "steps": 3, "batch": 3, "validation": 0.0}
    return replace(recipe, method=method, augment=augment, **small)


def weights(recipe, cache, folder, workers):
    """All tensors of the network after the run, those of its heads among them."""
    folder.mkdir()
    engine = Engine(build(recipe, len(cache.classes)), recipe, step_batches(recipe, cache)[0], folder)
    engine.run(workers, progress=False)
    return {key: value for key, value in engine.method.state_dict().items() if key != "_extra_state"}


@pytest.mark.parametrize(
    "name",  # of the recipes of one method the plain one runs in the short line
    [pytest.param(name, marks=pytest.mark.slow if "-" in name else ()) for name in RECIPES],
)
def test_one_seed_gives_one_network_whatever_the_workers(cache, tmp_path, name):
    recipe, opened = tiny(RECIPES[name][1]), open_cache(cache)
    alone, two = (weights(recipe, opened, tmp_path / f"{workers}", workers) for workers in (0, 2))
    assert all(value.equal(two[key]) for key, value in alone.items())
    another = weights(replace(recipe, seed=1), opened, tmp_path / "another", 0)
    trained = [key for key in alone if key.startswith("backbone.") and alone[key].ndim > 1]
    assert trained and not any(alone[key].equal(another[key]) for key in trained)
