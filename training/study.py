"""Compare recipes before anything is released: python -m training.study CACHE --data FOLDER --variant NAME ...

Each variant is trained without a third of the groups of the lung corpus' pretraining part and judged on that third, by
the protocol of the locked table, at several lengths. The locked test part stays shut, so every choice made from this
table (length, resolution, label term, crops, temperature) is made without it. One line of JSON a measurement is
appended to the log, and a finished measurement is not repeated.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import nn

from training.benchmark.lung import PLAIN_INPUT, with_input
from training.benchmark.protocol import evaluate_backbone
from training.benchmark.tasks import Task, lung_task
from training.data.prepare import Cache, open_cache
from training.data.sampling import StepBatches, batches
from training.engine import Engine
from training.methods.uscl import USCL
from training.pretrain import build
from training.recipes import RECIPES, Recipe
from usbackbones.splits import grouped_folds

_BASE = RECIPES["uscl"][1]
_UNLABELLED = replace(_BASE, method=USCL(label_weight=0.0))
_SHARP = USCL(label_weight=0.0, temperature=0.1)
_WIDE = replace(_BASE.augment, area=(0.3, 1.0))

LOG = Path(__file__).parent / "studies" / "lung.jsonl"

VARIANTS: dict[str, Recipe] = {
    "uscl": _BASE,
    "unlabelled": _UNLABELLED,
    "unlabelled-128px": replace(_UNLABELLED, augment=replace(_BASE.augment, size=128)),
    "unlabelled-wide": replace(_UNLABELLED, augment=_WIDE),
    "unlabelled-sharp": replace(_UNLABELLED, method=_SHARP),
    "unlabelled-wide-sharp": replace(_UNLABELLED, augment=_WIDE, method=_SHARP),
    "simclr": RECIPES["simclr"][1],
}


def judge(backbone: nn.Module, recipe: Recipe, task: Task) -> dict[str, float]:
    """Balanced accuracy of the linear and the kNN probe on the held-out groups, for frames and for clips."""
    size = recipe.augment.size
    network = with_input(
        backbone, **PLAIN_INPUT | {"input_size": (1, size, size), "mean": (recipe.mean,), "std": (recipe.std,)}
    )
    row = evaluate_backbone(network, task, part="test", bf16=True, resamples=10)
    return {
        f"{probe} {level}": round(row[probe][level]["balanced_accuracy"]["value"], 4)
        for probe in ("linear", "knn")
        for level in ("frame", "clip")
    }


def run(name: str, recipe: Recipe, cache: Cache, whole: Task, fold: int, at: tuple[int, ...], log: Path) -> None:
    """Train one variant on one fold and append a line at each of the lengths, and one before the first step."""
    groups = [row.group for row in whole.rows]
    _, held = grouped_folds(groups, [row.label for row in whole.rows], 3, 0)[fold]
    out = {groups[index] for index in held}
    task = whole.holding_out(out)
    fit = np.array([index for index, clip in enumerate(cache.clips) if clip.row.group not in out])
    method = build(recipe, len(cache.classes))
    data = StepBatches(
        cache,
        fit,
        recipe.method,
        recipe.augment,
        batch=recipe.batch,
        seed=recipe.seed,
        mean=recipe.mean,
        std=recipe.std,
        steps=recipe.steps,
    )
    engine = Engine(method, recipe, data, log.parent)
    method.train()
    for step, batch in enumerate(batches(data, 0, 0)):
        if step == 0:
            _write(log, name, fold, recipe.steps, 0, judge(method.backbone, recipe, task))
        engine.train_step(batch)
        engine.step = step + 1
        engine.schedule.step_update(engine.step)
        if engine.step in at:
            _write(log, name, fold, recipe.steps, engine.step, judge(method.backbone, recipe, task))
        if engine.step == max(at):
            return


def _write(log: Path, name: str, fold: int, steps: int, step: int, found: dict[str, float]) -> None:
    with log.open("a") as stream:
        stream.write(json.dumps({"variant": name, "fold": fold, "steps": steps, "step": step, **found}) + "\n")


def table(log: Path) -> str:
    """The log as Markdown: balanced accuracy in each fold, at each length."""
    found: dict[tuple[str, int, int], dict[int, str]] = {}
    for record in map(json.loads, log.read_text().splitlines()):
        row = found.setdefault((record["variant"], record["steps"], record["step"]), {})
        linear, knn = (f"{record[f'{probe} frame']:.2f} / {record[f'{probe} clip']:.2f}" for probe in ("linear", "knn"))
        row[record["fold"]] = f"{linear}; {knn}"
    folds = sorted({fold for row in found.values() for fold in row})
    lines = [
        f"| variant | steps of | {' | '.join(f'fold {fold}' for fold in folds)} |",
        "|---|---|" + "---|" * len(folds),
    ]
    for (name, steps, step), row in sorted(found.items()):
        lines.append(f"| {name} | {step} of {steps} | {' | '.join(row.get(fold, 'not run') for fold in folds)} |")
    return "\n".join(lines)


def main(
    cache: Annotated[Path, tyro.conf.Positional],
    data: Path,
    variant: tuple[str, ...] = ("unlabelled",),
    fold: tuple[int, ...] = (0, 1),
    at: tuple[int, ...] = (250, 500),
    steps: int = 1000,
    log: Path = LOG,
) -> None:
    """Train variants on inner folds and print the table of all that the log holds.

    Args:
        cache: folder made by training.data.prepare.
        data: folder that holds pocus_lung/, for the probe's frames.
        variant: names from VARIANTS.
        fold: of three, which to hold out in turn.
        at: numbers of steps at which to judge.
        steps: length of the schedule; training stops at the last of `at`.
        log: where measurements are kept.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    opened, whole = open_cache(cache), lung_task(data)
    torch.manual_seed(0)
    for name in variant:
        if name not in VARIANTS:
            raise SystemExit(f"error: no variant {name!r}; there are {', '.join(VARIANTS)}")
        for number in fold:
            lines = log.read_text().splitlines() if log.exists() else []
            done = {(r["variant"], r["fold"], r["steps"], r["step"]) for r in map(json.loads, lines)}
            if not {(name, number, steps, step) for step in at} <= done:
                run(name, replace(VARIANTS[name], steps=steps), opened, whole, number, at, log)
    print(table(log))  # noqa: T201


if __name__ == "__main__":
    tyro.cli(main)
