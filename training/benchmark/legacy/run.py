"""Score one trained head under the original papers' protocol and under a patient-grouped one; report the gap.

    python -m training.benchmark.legacy usbackbones/resnet18.TAG random:resnet18 --data FOLDER --page docs/legacy.md

Only the pretraining part of the task is used, so nothing is locked here and no test clip is opened. `--pickles FOLDER`
takes the five folds that the seeds published instead; no patient is known there, so only the epoch can be evaluated.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from training.benchmark.leaderboard import command_line
from training.benchmark.legacy.last_block import Tail, into_last_block
from training.benchmark.legacy.pickles import CLASSES, read_folds
from training.benchmark.legacy.trained_head import (
    ARMS,
    LEGACY,
    Training,
    best_epoch,
    epochs_of,
    evaluate_head,
    linear_head,
)
from training.benchmark.markdown import table, write_between
from training.benchmark.models import entries
from training.benchmark.tasks import load_task
from training.data.errors import refuse_unwritable, short_errors
from usbackbones._files import atomic_write
from usbackbones._words import plural
from usbackbones.features.extract import embed

Trained = Literal["head", "block"]
Build = Callable[[], nn.Module]


def prepared(model: nn.Module, frames: np.ndarray, trained: Trained, cache: Path | None) -> Tensor:
    """What goes into the part that is trained: pooled features, or what the last block is given."""
    if trained == "block":
        return into_last_block(model, frames)
    return torch.from_numpy(embed(model, frames, cache=cache))


def builder(model: nn.Module, x: Tensor, classes: int, trained: Trained, seed: int) -> Build:
    """Makes the part that is trained, again and the same at every call."""
    if trained == "block":
        return lambda: Tail(model, classes, seed)
    return lambda: linear_head(x.shape[1], classes, seed)


def on_task(
    model: nn.Module, task_name: str, data: Path, cache: Path, trained: Trained, training: Training, seeds: int
) -> dict[str, list[dict[str, float]]]:
    """{arm: a score of each seed}, inside the pretraining part of a task."""
    task = load_task(task_name, data, cache)
    if task.kind != "classes":
        raise ValueError(f"{task_name} has no classes: the seeds' protocol is one of classification")
    known = task.pretrain
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    x = prepared(model, known.frames, trained, cache)
    for seed in tqdm(range(seeds), "training", unit="seed"):
        build = builder(model, x, len(task.classes), trained, seed)
        for arm, predicted in evaluate_head(build, x, known.label, known.group, training, seed).items():
            found[arm].append(accuracies(known.label, predicted))
    return found


def on_pickles(
    model: nn.Module, folder: Path, trained: Trained, training: Training, seeds: int
) -> dict[str, list[dict[str, float]]]:
    """{arm: a score of each seed} on the seeds' own folds, for the two arms that need no patients."""
    found: dict[str, list[dict[str, float]]] = {LEGACY: [], ARMS[1]: []}
    folds = read_folds(folder)
    inputs = [prepared(model, np.concatenate([fold.train, fold.test]), trained, None) for fold in folds]
    for seed in tqdm(range(seeds), "training", unit="seed"):
        truth, best, last = [], [], []
        for fold, x in zip(folds, inputs, strict=True):
            y, cut = np.concatenate([fold.train_label, fold.test_label]), len(fold.train)
            build = builder(model, x, len(CLASSES), trained, seed)
            seen = epochs_of(build(), x, y, np.arange(cut), np.arange(cut, len(y)), training, seed)
            truth.append(fold.test_label)
            best.append(seen[best_epoch(seen, fold.test_label)])
            last.append(seen[-1])
        for arm, predicted in ((LEGACY, best), (ARMS[1], last)):
            found[arm].append(accuracies(np.concatenate(truth), np.concatenate(predicted)))
    return found


def accuracies(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy over all frames, which the seeds report, and balanced accuracy."""
    recall = [(predicted[y == label] == label).mean() for label in np.unique(y)]
    return {"accuracy": float((predicted == y).mean()), "balanced accuracy": float(np.mean(recall))}


def legacy_table(report: dict[str, Any]) -> str:
    """The report as Markdown: a row a model and metric, the arms, and what the protocol adds."""
    arms = list(report["rows"][0]["arms"])
    gap = arms[-1]
    rows = []
    for row in report["rows"]:
        for metric in ("accuracy", "balanced accuracy"):
            points = {arm: 100 * np.array([score[metric] for score in row["arms"][arm]]) for arm in arms}
            values = [*points.values(), points[LEGACY] - points[gap]]
            rows.append([row["model"], metric, *(_spread(value) for value in values)])
    training = report["training"]
    lines = [
        *table(["model", "metric", *arms, f"{LEGACY} − {gap}"], rows),
        "",
        f"{report['on']}. Trained: {report['trained']}, {plural(training['epochs'], 'epoch')}, batch "
        f"{training['batch']}, Adam {training['lr']:g}, {training['folds']} folds. Percent, {_over(report['seeds'])}.",
        f"`{report['command']}`",
    ]
    return "\n".join(lines)


def _spread(values: np.ndarray) -> str:
    """Mean ± deviation over seeds; of one seed the deviation would be 0, which nobody knows."""
    return f"{values.mean():.1f} ± {values.std():.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def _over(seeds: int) -> str:
    return f"mean ± deviation over {seeds} seeds" if seeds > 1 else "of one seed, so without a deviation"


@short_errors(ValueError, RuntimeError)
def main(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    data: Path = Path(),
    task: str = "lung",
    pickles: Path | None = None,
    train: Trained = "head",
    epochs: int = 30,
    seeds: int = 5,
    size: int | None = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    page: Path | None = None,
    cache: Path = Path("cache"),
) -> None:
    """Print the table of legacy against honest.

    Args:
        models: as `training.benchmark.leaderboard` takes them; of several networks of a row the first is used.
        data: folder that holds a folder for each dataset.
        task: whose pretraining part is used.
        pickles: folder with the seeds' covid_data1.pkl to covid_data5.pkl, used in place of a task.
        train: a linear head on frozen features, or the last block of the backbone with a head, as the seeds train.
        epochs: of training; USCL has 100, Meta-USCL and MetaLR 30.
        seeds: trainings, each with folds of its own.
        size: side of the network's input in pixels; by default each pretrained network's own.
        json_file: write all numbers here.
        page: a Markdown file whose table, between its markers, is made again.
        cache: folder for decoded frames and features.
    """
    command = command_line("training.benchmark.legacy", sys.argv[1:])
    refuse_unwritable(json_file, page)
    training = Training(epochs=epochs)
    rows = []
    for entry in entries(models, size, 1):
        if not entry.members:
            raise FileNotFoundError(f"{entry.name}: {entry.why_not}")
        model = entry.members[0]
        if pickles:
            arms = on_pickles(model, pickles, train, training, seeds)
        else:
            arms = on_task(model, task, data, cache, train, training, seeds)
        rows.append({"model": entry.name, "arms": arms})
    report = {
        "on": "The seeds' own folds" if pickles else f"The pretraining part of {task}",
        "trained": {"head": "a linear head on frozen features", "block": "the last block and a linear head"}[train],
        "training": asdict(training),
        "seeds": seeds,
        "rows": rows,
        "command": command,
    }
    print(legacy_table(report))  # noqa: T201
    if json_file:
        with atomic_write(json_file, "w") as stream:
            json.dump(report, stream, indent=1)
    if page:
        write_between(page, "legacy", legacy_table(report))
