"""A batch drawn at once against the same batch clip by clip, number by number; and how batches reach a device."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.batches.at_once import Draws
from training.data.batches.resident import free_memory, resident_frames
from training.data.batches.sketches import Recorder, agrees, strokes_at_once
from training.data.batches.supply import Supply, enough_workers, supply_of
from training.data.cache import open_cache
from training.data.manifest import Row
from training.data.prepare.run import prepare
from training.data.views.augment import IVPP, USCL
from training.engine.dataloaders import step_batches
from training.methods.simclr import SimCLR
from training.recipes import RECIPES

CPU = torch.device("cpu")
AT_ONCE = ["uscl", "uscl-released", "hico", "awcl", "simclr", "clip_pair", "ivpp", "smoke"]
STRONG = replace(IVPP, size=20, area=(0.1, 1.3), gamma=0.4)  # crops that do not fit are drawn again


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Clips of one to six frames, some with a frame rate, as a prepared cache."""
    root = tmp_path_factory.mktemp("mixed")
    rows, rng = [], np.random.default_rng(0)
    for number in range(12):
        folder = root / f"clip{number}"
        folder.mkdir()
        for index in range(1 + number % 6):
            Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / f"{index}.png")
        rows.append(Row(str(folder), folder.name, f"patient{number}", "phantom", "ab"[number % 2], "CC0", "phantom"))
    cache = prepare(rows, root / "cache", size=32, jobs=1, progress=False)
    timed = [replace(clip, seconds_per_frame=0.5 if n % 4 else None) for n, clip in enumerate(cache.clips)]
    return replace(cache, clips=timed)


def data_of(cache, name, augment=None, **changes):
    recipe = RECIPES[name][1]
    recipe = replace(recipe, augment=augment or recipe.augment, batch=12, validation=0.0, steps=6, **changes)
    return step_batches(recipe, cache)[0]


@pytest.mark.parametrize("augment", [USCL, STRONG], ids=["uscl", "strong"])
@pytest.mark.parametrize("name", AT_ONCE)
def test_every_number_is_the_one_drawn_clip_by_clip(mixed, name, augment):
    data = data_of(mixed, name, augment)
    for step in range(4):
        clips = data.clips_of(step)
        draws = Draws(data, step, clips)
        mixture, weights = data.pairs.draw_at_once(draws)
        numbers, drawn = draws.frames, draws.drawn
        for lane, pair in enumerate(data.pairs_of(step, clips)):
            recorder = Recorder(**vars(data.augment))
            wanted, weight = pair(recorder)
            assert weight == weights[lane]
            used = len(recorder.frames)
            np.testing.assert_allclose(mixture[:, lane, :used], wanted[:, :used], rtol=1e-6)
            assert not mixture[:, lane, used:].any()
            frames = mixed.frames.take(numbers[lane, :used])
            for slot, (frame, view) in enumerate(zip(recorder.frames, recorder.drawn, strict=True)):
                place = lane * numbers.shape[1] + slot
                assert np.array_equal(frames[slot], frame)
                assert drawn.boxes[place].tolist() == list(view.box)
                assert drawn.mirrored[place] == view.mirrored
                tone = view.tone
                assert drawn.tone[place, :3].tolist() == [tone.brightness, tone.contrast, tone.brightness_first]
                assert drawn.tone[place, 3] == pytest.approx(tone.gamma, rel=1e-14)
                assert np.isnan(drawn.blur[place]) if view.blur is None else drawn.blur[place] == view.blur


def test_which_methods_have_a_form_for_a_batch(mixed):
    for name in AT_ONCE:
        assert agrees(data_of(mixed, name), 0) is True
    assert agrees(data_of(mixed, "meta_uscl-released", USCL, method=replace(RECIPES["meta_uscl"][1].method)), 0) is None
    assert agrees(data_of(mixed, "awcl-released", USCL), 0) is None  # a changed tone makes other frames
    assert agrees(data_of(mixed, "uscl", method=replace(RECIPES["uscl"][1].method, beta=2.0)), 0) is None
    large = data_of(mixed, "simclr", seed=1 << 40)
    assert strokes_at_once(large, 0, large.clips_of(0), resident=False) is None


@dataclass(frozen=True)
class Later(SimCLR):
    """A method whose author changed one of the two forms that it inherits."""

    def views(self, clip, augment, rng):
        rng.random()
        return super().views(clip, augment, rng)


def test_a_form_that_draws_something_else_is_not_used(mixed, caplog):
    data = data_of(mixed, "simclr", method=Later())
    assert agrees(data, 0) is False
    with caplog.at_level(logging.WARNING):
        supply = supply_of(data, 0, CPU, "device")
    assert not supply.at_once and "drawing clip by clip" in caplog.text
    assert torch.allclose(next(supply.batches(0)).views, data[0].views, atol=1e-4)


def test_both_ways_to_make_views_give_the_same_batches(mixed):
    data = data_of(mixed, "uscl")
    ways = [supply_of(data, 1, CPU, "cpu"), supply_of(data, 1, CPU, "device")]
    assert [way.workers for way in ways] == [0, 0] and ways[1].at_once
    frames = resident_frames(mixed.frames, CPU, share=1.0).frames
    ways.append(Supply(data, CPU, "device", 0, at_once=True, resident=frames))
    ways.append(Supply(data, CPU, "device", 2, at_once=True))
    for batches in zip(*(way.batches(1) for way in ways), strict=True):
        for other in batches[1:]:
            assert torch.allclose(batches[0].views, other.views, atol=1e-4)
            assert batches[0].clips.equal(other.clips) and batches[0].labels.equal(other.labels)


def test_frames_go_to_a_device_that_has_room(mixed):
    found = resident_frames(mixed.frames, CPU, share=1.0)
    for clip in mixed.clips:
        kept = found.frames[clip.start : clip.start + clip.count].numpy()
        assert np.array_equal(kept, mixed.frames.view(clip.start, clip.count))
    assert "the frames are on the device" in found.told and "free on cpu" in found.told
    none = resident_frames(mixed.frames, CPU, share=1e-9)
    assert none.frames is None and "stay on the host" in none.told and free_memory(CPU) > 0


def test_frames_of_several_shards_are_taken_in_the_order_asked(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        folder = tmp_path / f"clip{number}"
        folder.mkdir()
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{index}.png")
        rows.append(Row(str(folder), folder.name, folder.name, "noise", "", "CC0", "noise"))
    prepare(rows, tmp_path / "cache", size=16, jobs=1, progress=False, shard_clips=1)
    frames = open_cache(tmp_path / "cache").frames
    assert len(frames.shards) == 3
    numbers = np.array([11, 0, 5, 5, 8, 3])
    assert np.array_equal(frames.take(numbers), np.concatenate([frames.view(n, 1) for n in numbers]))


def test_workers_choose_themselves(mixed, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16), raising=False)
    gpu = torch.device("cuda")
    assert enough_workers(gpu) == 8 and enough_workers(CPU) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert enough_workers(gpu) == 1  # of the two cores that each process has
    assert supply_of(data_of(mixed, "uscl"), 0, gpu, "cpu").workers == 1
    assert supply_of(data_of(mixed, "uscl"), 0, gpu, "cpu", workers=3).workers == 3


@pytest.mark.gpu
def test_frames_and_batches_on_a_gpu(mixed, gpu):
    """The default way there: frames copied once, batches drawn at once, views made in a stream of their own."""
    data = data_of(mixed, "uscl")
    supply = supply_of(data, 0, gpu, "device")
    assert supply.at_once and supply.resident.device.type == "cuda" and supply.workers == 0
    for step, batch in enumerate(supply.batches(0)):
        apart = (batch.views.cpu() - data[step].views).abs().max() * data.std * 255
        assert batch.views.device.type == "cuda" and apart <= 1 and batch.clips.cpu().equal(data[step].clips)
