"""Views made on a device against those of the CPU path: the same gray levels for the same seed."""

import json
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from training.data.batches.device_views import kernels, only_on_cpu
from training.data.batches.prefetch import developed
from training.data.batches.resident import resident_frames
from training.data.batches.sketches import MOST, Recorder, Sketches, strokes
from training.data.cache import open_cache
from training.data.views.augment import AWCL, IVPP, META_USCL, ULTRASOUND, USCL, Augment
from training.data.views.gray import blurred, resampled
from training.engine.dataloaders import step_batches, views_on
from training.errors import TrainingError
from training.pretrain import Run, pretrain
from training.recipes import RECIPES

CPU = torch.device("cpu")
AUGMENTS = {"uscl": USCL, "meta_uscl": META_USCL, "awcl": AWCL, "ivpp": IVPP}
ON_DEVICE = [name for name, (_, recipe) in RECIPES.items() if not only_on_cpu(recipe.augment)]


def batches_of(cache, recipe):
    method = replace(recipe.method, meta_share=0.5) if hasattr(recipe.method, "meta_share") else recipe.method
    recipe = replace(recipe, method=method, batch=4, validation=0.0, steps=6)
    return step_batches(recipe, open_cache(cache))[0]


def levels(views, data):
    """Gray levels of normalised views, before the mixture is rounded."""
    return (views * data.std + data.mean) * 255


def noise_pair(method, frames, seed, augment):
    return method.views(frames, augment, np.random.default_rng(seed)), 1.0


def same(data, step, device, at_once=True):
    """Drawn at once where the method can, with frames that lie on the device; or clip by clip."""
    sketches = Sketches(data, at_once, resident=at_once)
    resident = resident_frames(data.cache.frames, device, share=1.0).frames
    cpu, made = data[step], sketches[step].develop(device, resident).to(CPU)
    for name, value in vars(cpu).items():
        other = getattr(made, name)
        assert value.shape == other.shape and value.dtype == other.dtype, name
        if name in ("views", "meta"):
            assert not value.numel() or (levels(value, data) - levels(other, data)).abs().max() <= 1e-2
        else:
            assert value.equal(other)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_every_recipe_gives_the_same_batches(cache, name):
    """At its own size, which enlarges the 48 px frames, and smaller, which averages them."""
    recipe = RECIPES[name][1]
    for size in (recipe.augment.size, 24, 20):
        data = batches_of(cache, replace(recipe, augment=replace(recipe.augment, size=size)))
        for step in range(3):
            same(data, step, CPU)
            same(data, step, CPU, at_once=False)


@pytest.mark.gpu
def test_on_a_gpu_too(cache, gpu):
    for name in ON_DEVICE:
        for at_once in (True, False):
            same(batches_of(cache, RECIPES[name][1]), 0, gpu, at_once)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("side", [100, 224, 300])
def test_noise_gives_the_same_views(cache, name, side):
    """White noise, where a shift by a part of a pixel would show; with blur and gamma."""
    frames = np.random.default_rng(1).integers(0, 256, (6, side, side), dtype=np.uint8)
    augment = replace(AUGMENTS[name], gamma=0.5, blur=AUGMENTS[name].blur or 1.5, blur_chance=0.7)
    data = batches_of(cache, replace(RECIPES["simclr"][1], augment=augment))
    recipe = RECIPES["simclr"][1].method
    for seed in range(8):
        draw = partial(noise_pair, recipe, frames, seed)
        made = levels(strokes(data, [draw])[0].develop(CPU), data)[:, 0, 0].numpy()
        cpu = draw(augment)[0]
        assert np.abs(made - cpu).max() <= 1e-2


@pytest.mark.parametrize(
    ("crop", "size"), [((48, 48), 24), ((60, 90), 30), ((60, 20), 30), ((7, 1), 9), ((33, 31), 40)]
)
def test_resampling_is_that_of_opencv(crop, size):
    frame = np.random.default_rng(2).integers(0, 256, (90, 100), dtype=np.uint8)
    height, width = crop
    boxes = torch.tensor([(0, 3, height, width), (20, 7, height, width)])
    made = resampled(torch.from_numpy(np.stack([frame, frame])), boxes, torch.tensor([False, True]), size).numpy()
    for number, (top, left) in enumerate([(0, 3), (20, 7)]):
        want = cv2.resize(frame[top : top + height, left : left + width], (size, size), interpolation=cv2.INTER_AREA)
        assert np.array_equal(made[number], want[:, :: -1 if number else 1])


def test_blur_is_that_of_opencv():
    views = np.random.default_rng(3).integers(0, 256, (12, 40, 40), dtype=np.uint8)
    for side in (0, 5, 11):
        sigmas = np.linspace(0.1, 2.5, 12)
        made = blurred(torch.from_numpy(views).int(), kernels(sigmas, side)).numpy()
        for view, sigma, one in zip(views, sigmas, made, strict=True):
            assert np.array_equal(one, cv2.GaussianBlur(view, (side, side), sigma))


def test_what_a_device_cannot_make_is_said():
    assert only_on_cpu(USCL) == [] and only_on_cpu(ULTRASOUND) == ["beam", "depth", "speckle", "smooth", "clahe"]


def test_a_method_that_asks_for_too_many_frames_is_told():
    recorder, rng = Recorder(**vars(Augment(size=8))), np.random.default_rng(0)
    frame = np.zeros((8, 8), np.uint8)
    units = [recorder(frame, rng) for _ in range(MOST)]
    assert np.array_equal(np.stack(units), np.eye(MOST))
    with pytest.raises(ValueError, match="more than 8 frames"):
        recorder(frame, rng)


def test_the_batches_come_in_order_and_in_time_for_their_step(cache):
    data = batches_of(cache, RECIPES["meta_uscl"][1])
    made = list(developed(Sketches(data), 2, 0, CPU))
    assert len(made) == 4
    for step, batch in enumerate(made, 2):
        assert batch.clips.equal(data[step].clips) and torch.allclose(batch.views, data[step].views, atol=1e-4)
        assert torch.allclose(batch.meta, data[step].meta, atol=1e-4) and batch.meta.numel()


def test_a_run_whose_views_are_made_on_the_device(cache, tmp_path):
    """The same clips, and nearly the same losses: views differ by the last bits of float32."""
    recipe = RECIPES["smoke"][1]
    recipe = replace(recipe, arch="test_resnet", steps=3, batch=4, augment=replace(recipe.augment, size=32))
    losses = {}
    for place in ("cpu", "device"):
        run = Run(recipe=recipe, data=cache, out=tmp_path / place, views_on=place)
        folder = pretrain(run, "smoke", progress=False)
        losses[place] = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert json.loads((folder / "environment.json").read_text())["views_on"] == place
    np.testing.assert_allclose(losses["cpu"], losses["device"], rtol=1e-2)


def test_where_views_are_made():
    gpu = torch.device("cuda")
    assert views_on("auto", USCL, gpu) == "device" and views_on("auto", USCL, CPU) == "cpu"
    assert views_on("auto", ULTRASOUND, gpu) == "cpu" and views_on("cpu", USCL, gpu) == "cpu"
    with pytest.raises(TrainingError, match=r"no form for beam, depth, .*--views-on cpu"):
        views_on("device", ULTRASOUND, gpu)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["uscl", "meta_uscl", "uscl-ultrasound"])
def test_a_run_on_a_gpu_with_default_flags(cache, tmp_path, gpu, name):
    """bf16, frames on the device where views are made there, a checkpoint, and losses that are numbers."""
    recipe = RECIPES[name][1]
    method = replace(recipe.method, meta_share=0.5) if hasattr(recipe.method, "meta_share") else recipe.method
    recipe = replace(recipe, method=method, arch="test_resnet", steps=4, batch=3)
    recipe = replace(recipe, precision="bf16", augment=replace(recipe.augment, size=32))
    folder = pretrain(Run(recipe=recipe, data=cache, out=tmp_path / "run"), name, progress=False)
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 4 and np.isfinite(losses).all()
    told = json.loads((folder / "environment.json").read_text())
    assert told["views_on"] == ("cpu" if name == "uscl-ultrasound" else "device") and told["cuda"]
