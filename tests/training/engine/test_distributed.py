"""Two gloo processes, started by torchrun, against one, in float64: losses, gradients, and wrong gathers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.engine import two_processes
from tests.training.engine.two_processes import BACKBONES, LOSSES, METHODS, PLAIN, WRONG, of_loss, of_method
from training.data.batches.sampling import StepBatches
from training.data.cache import open_cache
from training.nn.distributed import gather, rank, world_size
from training.recipes import RECIPES

ROOT = Path(__file__).parents[3]
WORLD = 2


@pytest.fixture(scope="module")
def out(cache, tmp_path_factory):
    """What the two processes wrote."""
    folder = tmp_path_factory.mktemp("processes")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(WORLD)]
    command = [sys.executable, "-m", *torchrun, "-m", "tests.training.engine.two_processes", str(cache), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(out):
    """What each of the two processes found, by name."""
    return [load_file(out / f"{number}.safetensors") for number in range(WORLD)]


def relative_error(value, truth):
    """Largest difference of a gradient, over the largest gradient."""
    assert value.shape == truth.shape
    return float((value - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.slow
def test_two_processes_give_the_loss_and_gradients_of_one(found, name):
    one = of_loss(name)
    assert one[1:].norm() > 1e-3
    for result in found:
        assert relative_error(result[name][:1], one[:1]) < 1e-12
        assert relative_error(result[name][1:], one[1:]) < 1e-12


@pytest.mark.parametrize("arch", BACKBONES.values(), ids=BACKBONES)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_two_processes_take_the_step_of_one(found, cache, name, arch):
    for key, one in of_method(name, arch, cache).items():
        for result in found:
            two = result[f"{name} {arch} {key}"]
            assert one[1:].abs().max() > 1e-9
            assert relative_error(two[:1], one[:1]) < 1e-12, key
            assert relative_error(two[1:], one[1:]) < 1e-12, key


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_a_wrong_gather_is_seen_in_every_method(found, cache, name, fault):
    one = of_method(name, PLAIN, cache)["step"]
    for result in found:
        wrong = result[f"{fault} {name} step"]
        assert relative_error(wrong[1:], one[1:]) > 1e-3
        if name != "meta_uscl":  # whose weights have already moved with the wrong meta-gradient
            assert relative_error(wrong[:1], one[:1]) < 1e-12, "the loss alone cannot tell"


@pytest.mark.slow
def test_a_step_in_which_no_process_has_labels_leaves_the_classifier_alone(found, cache):
    one = of_method("uscl", PLAIN, cache, labeled=False)["step"]
    labeled = of_method("uscl", PLAIN, cache)["step"]
    assert len(labeled) - len(one) == 256 * 2 + 2  # the classifier has no gradient at all, rather than one of zeros
    for result in found:
        assert relative_error(result["unlabelled step"], one) < 1e-12


@pytest.mark.slow
def test_gather_is_in_the_order_of_the_ranks_and_differentiable_in_every_way(found):
    for number, result in enumerate(found):
        x = torch.arange(3.0) + 10 * number
        assert result["gathered"].tolist() == [0, 1, 2, 10, 11, 12]
        assert result["tangent"].tolist() == [0, 2, 4, 20, 22, 24]
        torch.testing.assert_close(result["slope"], 3 * x**2 * (1 + 2))
        torch.testing.assert_close(result["curvature"], 6 * x * (1 + 2))


@pytest.mark.slow
def test_what_one_process_knows_all_know(found):
    for result in found:
        assert result["texts"].tolist() == [3, 4]
        assert result["anyone"].tolist() == [True, False]


def test_a_single_process_needs_no_group_and_copies_nothing():
    x = torch.randn(3, 2)
    assert (world_size(), rank()) == (1, 0)
    assert gather(x) is x


@pytest.mark.slow
def test_the_command_line_trains_on_two_processes(out):
    records = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    assert {"validation", "rankme", "spread"} <= records[-1].keys()
    summary = json.loads((out / "run" / "summary.json").read_text())
    assert summary["batch"] == 6 and summary["environment"]["processes"] == 2  # 7 clips, or 6, for two processes
    state = torch.load(out / "run" / "checkpoint.pt", weights_only=True)
    assert len(set(state["generators"])) == 2


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 7])
def test_parts_of_a_batch_neither_overlap_nor_lose_a_clip(cache, processes):
    recipe = RECIPES["uscl"][1]

    def drawn(part, step):
        data = StepBatches(
            open_cache(cache),
            np.arange(8),
            recipe.method,
            recipe.augment,
            batch=7,
            seed=3,
            mean=0,
            std=1,
            steps=9,
            part=part,
        )
        return data._drawn(data.members, step).tolist()

    whole = 7 // processes * processes
    seen = set()
    for step in range(40):
        parts = [drawn((number, processes), step) for number in range(processes)]
        assert {len(part) for part in parts} == {whole // processes}
        assert len({clip for part in parts for clip in part}) == whole
        seen |= {clip for part in parts for clip in part}
    assert seen == set(range(8))


def test_one_process_draws_what_it_drew_before_there_were_parts(cache):
    recipe = RECIPES["uscl"][1]
    common = {"batch": 4, "seed": 3, "mean": 0, "std": 1, "steps": 9}
    whole = StepBatches(open_cache(cache), np.arange(8), recipe.method, recipe.augment, **common)[5]
    parts = [
        StepBatches(open_cache(cache), np.arange(8), recipe.method, recipe.augment, part=(number, 2), **common)[5]
        for number in range(2)
    ]
    assert torch.cat([part.views for part in parts], dim=1).equal(whole.views)
    assert two_processes.CLIPS == 8
