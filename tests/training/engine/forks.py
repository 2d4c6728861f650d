"""Runs of every method, killed and stopped at random, in forked processes.

A program of its own, because only a process that has not computed yet may fork. Importing torch once for all costs less
than each of these runs.

    python -m tests.training.engine.forks CACHE OUT        writes OUT/found.json for test_chaos.py
    python -m tests.training.engine.forks CACHE OUT 7      kills every method 21 times in one run, says what differed
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch
import torch._decomp.decompositions_for_jvp  # slow, and else imported in every child that looks ahead
from torch import distributed

from training.data.cache import open_cache
from training.engine.dataloaders import step_batches
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.nn.distributed import rank
from training.pretrain import begin_or_resume
from training.recipes import RECIPES

METHODS = ("uscl", "meta_uscl", "hico", "awcl", "simclr", "clip_pair", "ivpp")
STEPS, EVERY = 6, 2
KILLS = {1: 2, 2: 1}  # of each method, by the number of processes


def recipe_of(name, steps=STEPS):
    """A recipe at toy size, with dropout in the backbone and a moving average, which have states too."""
    recipe = RECIPES[name][1]
    method = replace(recipe.method, meta_share=0.5) if name == "meta_uscl" else recipe.method
    return replace(
        recipe,
        method=method,
        arch="test_resnet",
        steps=steps,
        batch=6,
        augment=replace(recipe.augment, size=32),
        ema=0.9,
    )


class Told(Engine):
    """Says through a pipe that a step begins: a dot by the first process, a comma by the others."""

    pipe = -1

    def train_step(self, batch):
        os.write(self.pipe, b"," if rank() else b".")
        return super().train_step(batch)


def engine_of(recipe, cache, folder, kind=Engine):
    opened = open_cache(cache)
    data, validation = step_batches(recipe, opened)
    method = build(recipe, len(opened.classes))
    for module in method.backbone.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda relu, _, out: torch.nn.functional.dropout(out, 0.1, relu.training))
            break
    return kind(method, recipe, data, folder, validation, torch.device("cpu"))


def started(recipe, cache, folder, world, every=EVERY):
    """Fork the processes of a run; their ids, and a pipe that tells the steps."""
    folder.mkdir(exist_ok=True)
    reading, Told.pipe = os.pipe()
    store = folder / f"store{time.monotonic_ns()}"
    children = []
    for number in range(world):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            if world > 1:
                distributed.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=world)
            engine = engine_of(recipe, cache, folder, Told)
            begin_or_resume(engine)
            engine.run(checkpoint_every=every, progress=False)
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            if code == 1:
                traceback.print_exc()
            os._exit(code)
    os.close(Told.pipe)
    return children, reading


def ended(children, reading):
    """Wait for all; their exit codes, a signal as its negative."""
    os.close(reading)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def killed(recipe, cache, folder, world, chance):
    """Run for a few steps, then kill -9 one process at any moment of a step, and the others as torchrun does."""
    children, reading = started(recipe, cache, folder, world)
    for _ in range(chance.randint(1, 1 + EVERY)):
        while (told := os.read(reading, 1)) != b".":
            if not told:
                raise RuntimeError(f"a run in {folder} ended before it was killed")
    time.sleep(chance.random() * 0.06)
    victim = chance.randrange(world)
    for child in [children[victim], *children]:
        os.kill(child, signal.SIGKILL)
    codes = ended(children, reading)
    return {"processes": world, "victim": victim, "codes": codes}


def leaves(state, path=""):
    """Every leaf of a checkpoint by its path."""
    if isinstance(state, dict | list):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {key: leaf for name, inner in items for key, leaf in leaves(inner, f"{path}.{name}").items()}
    return {path: state}


def differing(one, other):
    """The paths at which two checkpoints are not the same to the bit."""
    first, second = (leaves(torch.load(folder / "checkpoint.pt", weights_only=True)) for folder in (one, other))
    same = {
        path
        for path in first.keys() & second.keys()
        if (first[path].equal(second[path]) if isinstance(first[path], torch.Tensor) else first[path] == second[path])
    }
    return sorted((first.keys() | second.keys()) - same)


def kills(cache, out, often=1):
    found = []
    for name in METHODS:
        for world, times in KILLS.items():
            steps = STEPS if often == 1 else 2 * STEPS * often  # a killed run must have steps left for the next kill
            recipe, chance = recipe_of(name, steps), random.Random(f"{name} {world}")
            folders = [out / f"{name}-{world}-{kind}" for kind in ("unbroken", "killed")]
            assert set(ended(*started(recipe, cache, folders[0], world))) == {0}
            sittings = [killed(recipe, cache, folders[1], world, chance) for _ in range(times * often)]
            assert set(ended(*started(recipe, cache, folders[1], world))) == {0}
            found += [{"method": name, "differing": differing(*folders), **sitting} for sitting in sittings]
    return found


def signalled_while_writing(cache, out, number):
    """Send a signal when a checkpoint is half written; the exit code, and whether it was still being written then."""
    folder = out / f"writing-{number}"
    children, reading = started(recipe_of("uscl", steps=400), cache, folder, 1, every=1)
    os.read(reading, 3)
    while not any(folder.glob(".checkpoint.pt.*.part")):
        pass
    os.kill(children[0], number)
    half = any(folder.glob(".checkpoint.pt.*.part"))
    (code,) = ended(children, reading)
    return {"code": code, "half": half}


def stopped_by_one(cache, out):
    """SIGTERM to the second of two processes; the exit codes of both."""
    folder = out / "stopped"
    children, reading = started(recipe_of("uscl", steps=400), cache, folder, 2)
    while os.read(reading, 1) == b".":
        pass  # until the second is in its first step
    os.kill(children[1], signal.SIGTERM)
    return {"codes": ended(children, reading)}


def main(cache, out, often=1):
    out.mkdir()
    if often > 1:
        found = kills(cache, out, often)
        told = [(one["method"], one["processes"], one["differing"]) for one in found]
        print(f"{len(found)} kills; not the same to the bit: {[one for one in told if one[2]] or 'none'}")
        return
    found = {
        "kills": kills(cache, out),
        "sigterm in a write": signalled_while_writing(cache, out, signal.SIGTERM),
        "sigkill in a write": signalled_while_writing(cache, out, signal.SIGKILL),
        "stopped": stopped_by_one(cache, out),
    }
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
