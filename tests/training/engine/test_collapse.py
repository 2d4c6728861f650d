"""RankMe, spread, collapse; metrics.jsonl and its mirrors; the curves."""

import builtins
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.cache import open_cache
from training.engine.collapse import Representations, collapsed, fixed_views
from training.engine.curves import draw_loss, draw_rankme
from training.engine.dataloaders import step_batches
from training.engine.log import Journal, read_journal, rewind_journal
from training.engine.loop import Engine, TrainingError
from training.engine.prepare_model import build
from training.methods.base import Method
from training.recipes import RECIPES

CPU = torch.device("cpu")


def slow_measures(rows):
    """RankMe and spread by their definitions."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    singular = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return np.exp(-(shares * np.log(shares)).sum()), unit.std(0).mean() * unit.shape[1] ** 0.5


def measures(*batches):
    seen = Representations(batches[0].shape[1], CPU)
    for batch in batches:
        seen.add(torch.from_numpy(batch))
    return seen.measures()


@pytest.mark.parametrize(("count", "width"), [(200, 16), (20, 64), (64, 64)])
def test_measures_are_those_of_the_definition(count, width):
    rows = np.random.default_rng(count).normal(size=(count, width)) * np.linspace(0.1, 2, width) + 1
    found = measures(rows[:7], rows[7:])
    rank, spread = slow_measures(rows)
    assert found["rankme"] == pytest.approx(rank, rel=1e-5) and found["spread"] == pytest.approx(spread, rel=1e-9)
    assert found["images"] == count and not collapsed(found)


def test_what_is_spread_evenly_has_full_rank_and_spread_one():
    found = measures(np.random.default_rng(0).normal(size=(20000, 8)))
    assert found["rankme"] == pytest.approx(8, rel=1e-3) and found["spread"] == pytest.approx(1, rel=1e-2)


def test_a_point_and_a_line_are_collapsed_and_few_images_prove_nothing():
    rng = np.random.default_rng(0)
    point = 1 + 1e-5 * rng.normal(size=(50, 8))
    line = np.ones(8) + rng.uniform(-1, 1, size=(50, 1)) * np.eye(8)[0] + 1e-6 * rng.normal(size=(50, 8))
    assert measures(point)["spread"] < 1e-3 and collapsed(measures(point))
    assert 1 <= measures(line)["rankme"] < 2 and collapsed(measures(line))
    assert collapsed(measures(np.ones((50, 8)))) and measures(np.ones((50, 8)))["rankme"] == 1
    assert not collapsed(measures(point[:4]))


@dataclass(frozen=True)
class Align:
    """Two views of a frame pulled together and nothing pushed apart: it collapses."""

    name = "align"

    def views(self, clip, augment, rng):
        return np.stack([augment(clip[0], rng), augment(clip[0], rng)]).astype(np.float32)

    def build(self, backbone, classes):
        return AlignNet(backbone)


class AlignNet(Method):
    def losses(self, batch):
        first, second = self.encode(batch.views)
        return {"loss": (first - second).square().sum(1).mean() + 10 * self.encode(batch.views).square().mean()}


def engine_of(recipe, cache, folder):
    opened = open_cache(cache)
    data, validation = step_batches(recipe, opened)
    return Engine(build(recipe, len(opened.classes)), recipe, data, folder, validation, CPU)


@pytest.fixture
def recipe():
    recipe = RECIPES["simclr"][1]
    return replace(
        recipe, arch="test_resnet", batch=6, steps=12, precision="fp32", augment=replace(recipe.augment, size=32)
    )


def test_a_representation_that_collapses_ends_the_run(recipe, cache, tmp_path):
    recipe = replace(recipe, method=Align(), lr=0.03, steps=400, warmup=0.0, weight_decay=0.5)
    engine = engine_of(recipe, cache, tmp_path)
    with pytest.raises(TrainingError, match=r"collapsed at step \d+, clips clip.*RankMe .* of 96, spread .*lower --lr"):
        engine.run(checkpoint_every=3, progress=False)
    seen = [record for record in read_journal(tmp_path) if "rankme" in record]
    assert [collapsed(record) for record in seen[-3:]] == [False, True, True]
    assert torch.load(engine.checkpoint, weights_only=True)["step"] == seen[-2]["step"] + 1  # the first of the two
    going_on = engine_of(replace(recipe, stop_collapsed=False, steps=seen[-1]["step"] + 1), cache, tmp_path / "on")
    going_on.folder.mkdir()
    going_on.run(checkpoint_every=3, progress=False)


def test_a_healthy_run_is_looked_at_on_the_same_views_and_not_stopped(recipe, cache, tmp_path):
    engine = engine_of(recipe, cache, tmp_path)
    fixed = fixed_views(engine.data)
    assert len(fixed) == 2 and not len(fixed[0].meta) and fixed[0].views.equal(fixed_views(engine.data)[0].views)
    engine.run(checkpoint_every=4, progress=False)
    seen = [record for record in read_journal(tmp_path) if "rankme" in record]
    assert [record["step"] for record in seen] == [3, 7, 11]
    assert all(record["images"] == 16 and 2 < record["rankme"] <= 15 for record in seen)
    assert not (tmp_path / "best.pt").exists()


def test_the_best_state_is_that_of_the_lowest_loss_without_labels(recipe, cache, tmp_path):
    recipe = replace(recipe, method=RECIPES["uscl"][1].method, validation=0.5, batch=4, lr=0.05)
    engine = engine_of(recipe, cache, tmp_path)
    engine.run(checkpoint_every=1, progress=False)
    found = [record["validation"] for record in read_journal(tmp_path)]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["step"] == 1 + int(np.argmin(found)) and best["best"] == min(found)
    engine.method.load_state_dict(best["method"])
    assert engine.validate()["validation"] == min(found)
    engine.method.classifier.weight.data.fill_(7)  # labels have no say
    assert engine.validate()["validation"] == min(found)


RECORD = {"step": 3, "loss": 1.5, "views_per_second": 10.0, "data_share": 0.1}


def journal(folder, mirrors=()):
    return Journal(folder, 9, 0, progress=False, mirrors=mirrors, silent=False)


def test_a_torn_line_is_no_record_and_rewinding_forgets(tmp_path):
    with journal(tmp_path) as log:
        for step in range(4):
            log.write(RECORD | {"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [record["step"] for record in read_journal(tmp_path)] == [0, 1, 2, 3]
    rewind_journal(tmp_path, 2)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()] == [0, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_that_cannot_be_written_is_told(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(TrainingError, match=r"metrics\.jsonl could not be written .*No space left"),
        journal(tmp_path) as log,
    ):
        log.write(RECORD)
        log.flush()
    assert "last lines" in caplog.text


def test_tensorboard_gets_the_numbers(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with journal(tmp_path, ["tensorboard"]) as log:
        log.write(RECORD)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    (event,) = read.Scalars("loss")
    assert (event.step, event.value) == (3, 1.5)


def test_trackio_gets_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    with journal(tmp_path, ["trackio"]) as log:
        log.write(RECORD)
    (entry,) = storage.get_logs("usbackbones", tmp_path.name)
    assert (entry["step"], entry["loss"]) == (3, 1.5)


@pytest.mark.parametrize("package", ["tensorboard", "trackio"])
def test_a_mirror_that_is_not_installed_is_told(tmp_path, monkeypatch, package):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(("trackio", "torch.utils.tensorboard")):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match=rf"--mirror {package} .*pip install 'usbackbones\[{package}\]'"):
        journal(tmp_path, [package])


def test_the_curves_are_pictures(tmp_path):
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    records = [RECORD | {"step": step} for step in range(5)]
    records[2] |= {"rankme": 3.0, "spread": 0.2, "validation": 1.0}
    draw_loss(records, tmp_path / "loss.png")
    draw_rankme(records, tmp_path / "rankme.png")
    for name in ("loss", "rankme"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
