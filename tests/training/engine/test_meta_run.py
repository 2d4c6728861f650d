"""A run of Meta-USCL: its meta split, its meta batches, what a checkpoint keeps of CMW-Net, and what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.batches.sampling import batches
from training.data.cache import open_cache
from training.data.errors import CorpusError
from training.engine.dataloaders import divide, step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.engine.run_folder import describe_corpus
from training.errors import TrainingError
from training.methods.meta_uscl import MetaUSCL
from training.nn.optimizer_step import LookaheadError
from training.recipes import RECIPES


@pytest.fixture
def recipe():
    smoke = RECIPES["smoke"][1]
    return replace(
        smoke,
        method=MetaUSCL(meta_share=0.5, meta_lr=1e-2),
        arch="test_resnet",
        steps=6,
        batch=3,
        augment=replace(smoke.augment, size=32),
    )


def test_meta_clips_are_of_other_groups(recipe, cache):
    opened = open_cache(cache)
    train, held, meta = divide(replace(recipe, validation=0.25), opened)
    assert len(train) + len(held) + len(meta) == 8 and len(meta) >= 2
    groups = [{opened.clips[index].row.group for index in part} for part in (train, held, meta)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    again = divide(replace(recipe, validation=0.25, lr=0.5), opened)
    assert all((one == other).all() for one, other in zip((train, held, meta), again, strict=True))
    other = divide(replace(recipe, seed=3), opened)[2]
    assert set(other) != set(divide(recipe, opened)[2])
    data, validation = step_batches(replace(recipe, validation=0.25), opened)
    assert (data.meta == meta).all() and not len(validation[0].meta)
    assert describe_corpus(opened, data)["groups"] == sorted(groups[0] | groups[2])


def test_meta_batches_are_a_function_of_seed_and_step(recipe, cache):
    data, _ = step_batches(replace(recipe, method=replace(recipe.method, meta_every=2)), open_cache(cache))
    drawn = list(batches(data, 0, 0))
    assert [len(batch.meta) for batch in drawn] == [2, 0] * 3
    assert drawn[0].meta.shape == (2, 3, 1, 32, 32) and not drawn[0].meta.equal(drawn[2].meta)
    for batch, other in zip(drawn[2:], batches(data, 2, 1), strict=True):
        assert batch.meta.equal(other.meta) and batch.views.equal(other.views)
    seen = []
    data.pairs = type(
        "Spy",
        (MetaUSCL,),
        {
            "meta_views": lambda self, clip, augment, rng: (
                seen.append(clip) or MetaUSCL.meta_views(self, clip, augment, rng)
            )
        },
    )()
    for step in range(4):
        data[step]
    kept = [data.cache.clip(index) for index in data.meta]
    assert len(seen) == 12 and all(any(np.shares_memory(clip, other) for other in kept) for clip in seen)


def test_too_few_meta_clips_are_refused(recipe, cache):
    with pytest.raises(CorpusError, match=r"0 clips for the meta loss.*--method\.meta-share \(now 0\.1\)"):
        step_batches(replace(recipe, method=replace(recipe.method, meta_share=0.1)), open_cache(cache))


class Copying(Engine):
    """Keeps every checkpoint."""

    def save(self, best=False):
        super().save(best)
        shutil.copy(self.checkpoint, self.folder / f"{self.step}.pt")


def engine_of(recipe, cache, folder):
    folder.mkdir()
    opened = open_cache(cache)
    return Copying(build(recipe, 2), recipe, step_batches(recipe, opened)[0], folder)


def flattened(state):
    """Every leaf of a checkpoint by its path."""
    if isinstance(state, dict):
        return {f"{key}.{inner}": leaf for key, value in state.items() for inner, leaf in flattened(value).items()}
    if isinstance(state, list):
        return flattened(dict(enumerate(state)))
    return {"": state}


@pytest.mark.parametrize("optimiser", ["momentum", "adamw"])
def test_a_run_continues_to_the_bit_with_cmw_net(recipe, cache, tmp_path, deterministic, optimiser):
    recipe = replace(recipe, optimiser=optimiser, method=replace(recipe.method, meta_every=2))
    unbroken = engine_of(recipe, cache, tmp_path / "unbroken")
    unbroken.run(checkpoint_every=3, progress=False)
    resumed = engine_of(recipe, cache, tmp_path / "resumed")
    resumed.resume(tmp_path / "unbroken" / "3.pt")
    assert resumed.step == 3
    resumed.run(progress=False)
    ours, theirs = (flattened(torch.load(e.checkpoint, weights_only=True)) for e in (resumed, unbroken))
    assert any("_extra_state" in key and "exp_avg" in key for key in ours)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.equal(theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key], key


def test_what_would_falsify_the_look_ahead_is_refused(recipe, cache, tmp_path):
    with pytest.raises(TrainingError, match=r"MetaUSCLNet looks ahead .* set --clip-gradient 0"):
        engine_of(replace(recipe, clip_gradient=1.0), cache, tmp_path / "clipped")
    engine = engine_of(replace(recipe, optimiser="lars"), cache, tmp_path / "lars")
    with pytest.raises(LookaheadError, match="Lars"):
        engine.train_step(engine.data[0])


def test_a_nan_among_the_meta_clips_reaches_no_weight(recipe, cache, tmp_path):
    engine = engine_of(recipe, cache, tmp_path / "nan")
    before = {name: value.clone() for name, value in engine.method.named_parameters()}
    batch = engine.data[0]
    batch.meta[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="the meta is nan at step 0"):
        engine.train_step(batch)
    assert all(value.equal(before[name]) for name, value in engine.method.named_parameters())
