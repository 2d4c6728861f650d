"""Compare recipes before anything is released: python -m training.study CACHE --data FOLDER --variant NAME ...

Each variant is trained without a third of the groups of every dataset and evaluated on that third, by the protocol of
the locked tables and on several tasks, for several seeds and thirds. The locked test parts stay shut, so no choice from
this table rests on them. One line of JSON a measurement is appended to the log, and a finished measurement
is not repeated: give the same command again to go on.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from torch import nn

from training.benchmark.models import PLAIN_INPUT, random_networks, with_input
from training.benchmark.protocol import PROBES, evaluate_backbone
from training.benchmark.task import Task
from training.benchmark.tasks import TASKS, load_task
from training.data.cache import Cache, open_cache
from training.data.errors import CorpusError, append_line, refuse_unwritable, short_errors
from training.engine.trial_run import trained
from training.recipes import Recipe
from training.study.table import LOG, VARIANTS, Record, read_log, study_table
from usbackbones.data.splits import grouped_folds

FOLDS = 3


def held_out(names: tuple[str, ...], data: Path, fold: int) -> dict[str, Task]:
    """Each task with a third of the groups of its pretraining part in place of the locked ones."""
    tasks = {}
    for name in names:
        whole = load_task(name, data)
        groups = [row.group for row in whole.rows]
        labels = [row.label if whole.kind == "classes" else "" for row in whole.rows]
        _, held = grouped_folds(groups, labels, FOLDS, 0)[fold]
        tasks[name] = whole.holding_out({groups[index] for index in held})
    return tasks


def members_without(cache: Cache, tasks: Mapping[str, Task], sources: tuple[str, ...]) -> np.ndarray:
    """Indices of the clips of these sources whose group no task evaluates on."""
    evaluated = [row for task in tasks.values() for row in task.test_rows]
    clips, groups = {(row.source, row.clip) for row in evaluated}, {(row.source, row.group) for row in evaluated}
    rows = [clip.row for clip in cache.clips]
    # A task may call a group by another name than the corpus does: then its clips tell which group it is.
    groups |= {(row.source, row.group) for row in rows if (row.source, row.clip) in clips}
    kept = [i for i, row in enumerate(rows) if row.source in sources and (row.source, row.group) not in groups]
    return np.array(kept, np.int64)


def evaluate(backbone: nn.Module, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """{task: {probe: {level: value}}}: balanced accuracy of the groups held out, or the mean absolute error in mm."""
    found: dict[str, Any] = {}
    for name, task in tasks.items():
        row = evaluate_backbone(backbone, task, part="test", bf16=True, resamples=2)
        metric = "balanced_accuracy" if task.kind == "classes" else "mae"
        found[name] = {
            probe: {level: round(values[metric]["value"], 4) for level, values in row[probe].items()}
            for probe in PROBES[task.kind]
        }
    return found


def input_of(recipe: Recipe, channels: int, size: int) -> dict[str, Any]:
    """Mean and std of a recipe's frames at a size, as fields of a timm pretrained_cfg."""
    given = {"mean": (recipe.mean,) * channels, "std": (recipe.std,) * channels}
    return PLAIN_INPUT | given | {"input_size": (channels, size, size)}


@short_errors(CorpusError)
def main(
    cache: Annotated[Path, tyro.conf.Positional],
    data: Path,
    variant: tuple[str, ...] = ("simclr", "uscl"),
    fold: tuple[int, ...] = (0, 1, 2),
    seed: tuple[int, ...] = (0, 1, 2),
    steps: int = 300,
    sources: tuple[str, ...] = ("pocus_lung",),
    tasks: tuple[str, ...] = ("lung", "busi", "gallbladder", "hc18"),
    px: tuple[int, ...] = (),
    log: Path = LOG,
) -> None:
    """Train variants without a third of the groups, evaluate them on it, and print the table of all that the log holds.

    Args:
        cache: folder made by training.data.prepare.run, without locked groups.
        data: folder that holds a folder for each dataset, for the probes' frames.
        variant: names from training.study.table.VARIANTS; "random" is an untrained network.
        fold: of three, which to hold out in turn.
        seed: of weights, sampling and views.
        steps: of each run; the rate falls to zero over them.
        sources: which datasets of the cache are trained on.
        tasks: what is evaluated; any of the names of training.benchmark.tasks.
        px: side of the frames that it is evaluated on, each in turn; by default that of its training.
        log: where measurements are kept.
    """
    for name, known in [(n, VARIANTS) for n in variant] + [(n, TASKS) for n in tasks]:
        if name not in known:
            raise CorpusError(f"no {name!r}; there are {', '.join(known)}")
    refuse_unwritable(log)
    opened, done = open_cache(cache), {record.key for record in read_log(log)}
    for number in fold:
        held: dict[str, Task] = {}
        for one, name in product(seed, variant):
            random = name == "random"
            recipe = replace(VARIANTS[name], seed=one, steps=steps)
            about = name, () if random else sources, 0 if random else steps, one, number
            records = [Record(*about, size) for size in px or (recipe.augment.size,)]
            if all(record.key in done for record in records):
                continue
            held = held or held_out(tasks, data, number)
            if random:
                backbone: nn.Module = random_networks(recipe.arch, one + 1)[one]
            else:
                members = members_without(opened, held, sources)
                backbone = trained(recipe, opened, members, f"{name}, fold {number}, seed {one}")
            for record in records:
                found = evaluate(with_input(backbone, **input_of(recipe, 3 if random else 1, record.px)), held)
                append_line(log, json.dumps(record.told(found)))
    print(study_table(log))  # noqa: T201
