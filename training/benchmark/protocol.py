"""Evaluate a backbone on a task: probes on frozen features, intervals over groups.

The guard is `predict`: of the locked part it is handed the frames alone, so no label of that part can reach a fit or a
choice. `compare` reads the labels afterwards.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from training.benchmark.metrics import measured
from training.benchmark.task import Kind, Part, Task
from usbackbones.data.splits import grouped_folds
from usbackbones.features.extract import embed
from usbackbones.metrics.levels import difference, scores
from usbackbones.probing.held_out import Division, Rows, predict_held_out

PROBES: dict[Kind, tuple[str, ...]] = {"classes": ("knn", "linear"), "number": ("ridge",)}


@dataclass(frozen=True)
class Protocol:
    """How a row of the table is made.

    Attributes:
        part: "test" fits on the pretraining part and evaluates on the locked one; "inner" cross-validates inside the
            pretraining part; "unseen" does so on what `Task.unseen` gives.
        folds: of the inner part.
        repeats: how often the inner part is divided again.
        resamples: of the bootstrap over groups.
        seed: of folds, draws and bootstrap.
        bf16: compute features in bfloat16.
        shots: numbers of labelled groups of each class for the few-shot probes; the inner part is divided once.
        draws: of the labelled groups, for each number.
    """

    part: Literal["inner", "test", "unseen"] = "inner"
    folds: int = 5
    repeats: int = 3
    resamples: int = 2000
    seed: int = 0
    bf16: bool = False
    shots: tuple[str, ...] = ()
    draws: int = 5


@dataclass(frozen=True)
class Predictions:
    """What the probes say about the evaluated frames, made before anybody looks at the labels of those frames.

    Attributes:
        probe: for each probe one prediction for each network and, on the inner part, each repeat: probabilities
            float [N, C], or measured quantities float [N].
        penalties: what each probe that has a penalty chose.
        few: the same for each number of shots, one for each network and draw.
    """

    probe: dict[str, list[np.ndarray]]
    penalties: list[float] = field(default_factory=list)
    few: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)


def predict(models: Iterable[nn.Module], task: Task, protocol: Protocol, cache: Path | None = None) -> Predictions:
    """Fit the probes on the frozen features of each network and predict the evaluated part.

    Here is the guard: of the locked part nothing but the frames is read, and each is only ever predicted. The models
    count as one row; their features are kept in the cache.
    """
    known, locked = task.pretrain, task.test.frames if protocol.part == "test" else None

    def features() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for model in models:
            x = embed(model, known.frames, bf16=protocol.bf16, cache=cache)
            yield x, x if locked is None else embed(model, locked, bf16=protocol.bf16, cache=cache)

    return predict_features(features(), task, protocol)


def predict_features(features: Iterable[tuple[np.ndarray, np.ndarray]], task: Task, protocol: Protocol) -> Predictions:
    """Fit the probes on features and predict the evaluated part; `predict` for features that are of no network.

    Each pair is one member of the row: features of the pretraining part, float [N, D], and of the evaluated one.
    """
    probes, known = PROBES[task.kind], task.pretrain
    out = Predictions({probe: [] for probe in probes}, [], {shot: {p: [] for p in probes} for shot in protocol.shots})
    rows = Rows(known.label, known.clip, known.group, task.classes)
    for x, new in features:
        for repeat, folds in enumerate(_divisions(task, protocol, len(new))):
            shots = protocol.shots if not repeat and task.kind == "classes" else ()
            found = predict_held_out(x, rows, folds, new, shots, protocol.draws, protocol.seed)
            out.penalties.extend(found.penalties)
            for (probe, shot, _), member in found.members.items():
                (out.few[shot] if shot else out.probe)[probe].append(member)
    return out


def _divisions(task: Task, protocol: Protocol, evaluated: int) -> list[list[Division]]:
    """Rows to fit on and rows to evaluate: one pair for the locked part, `repeats` times `folds` for the inner one."""
    known = task.pretrain
    if protocol.part == "test":
        return [[(np.arange(len(known.label)), np.arange(evaluated))]]
    names = [task.classes[label] for label in known.label] if task.classes else [""] * len(known.label)
    return [
        grouped_folds(known.group.tolist(), names, protocol.folds, protocol.seed + repeat)
        for repeat in range(protocol.repeats)
    ]


def compare(
    predictions: Predictions, task: Task, protocol: Protocol, **references: Predictions | None
) -> dict[str, Any]:
    """Compare predictions with the labels: {probe: {level: {metric: {"value", "low", "high", "members"}}}}.

    "value" is the mean over the members (networks, repeats), "members" their own values, "low" and "high" the 95 %
    interval over groups. The name of each reference holds the first three for the paired difference to it.
    """
    part, settings = evaluated_part(task, protocol), (task.kind, protocol.resamples, protocol.seed)
    row: dict[str, Any] = {}
    for probe in PROBES[task.kind]:
        mine = measured(predictions.probe[probe], part, *settings)
        others = {
            name: difference(mine, measured(reference.probe[probe], part, *settings))
            for name, reference in references.items()
            if reference
        }
        row[probe] = {
            level: {
                metric: one.numbers()
                | {"members": one.members}
                | {name: other[level][metric] for name, other in others.items()}
                for metric, one in metrics.items()
            }
            for level, metrics in mine.items()
        }
    return row


def compare_few(predictions: Predictions, task: Task, protocol: Protocol) -> dict[str, Any]:
    """Few-shot balanced accuracy of clips: {probe: {shots: {"value", "sd", "members"}}}, over networks and draws."""
    part = evaluated_part(task, protocol)
    row: dict[str, Any] = {}
    for shot, probes in predictions.few.items():
        for probe, members in probes.items():
            values = [
                scores(part.label, probability, part.clip, part.group)["clip"]["balanced_accuracy"]
                for probability in members
            ]
            told = {"value": float(np.mean(values)), "sd": float(np.std(values)), "members": values}
            row.setdefault(probe, {})[shot] = told
    return row


def evaluated_part(task: Task, protocol: Protocol) -> Part:
    """The part whose labels predictions are compared with."""
    return task.test if protocol.part == "test" else task.pretrain


def evaluate_backbone(
    models: nn.Module | Iterable[nn.Module],
    task: Task,
    part: Literal["inner", "test"] = "inner",
    reference: Predictions | None = None,
    **protocol: Any,
) -> dict[str, Any]:
    """One row of the table, for studies, as `compare` returns it; several models (seeds) count as one row.

    The task keeps its frames, so further calls decode nothing. Use "inner" for every choice, and "test" of the whole
    task once, at the end; for a backbone that was pretrained without some groups, "test" of `task.holding_out(groups)`.
    `reference` is what `predict` returned for the networks that the paired difference is taken to.
    """
    chosen = Protocol(part=part, **protocol)
    nets = [models] if isinstance(models, nn.Module) else models
    return compare(predict(nets, task, chosen), task, chosen, difference=reference)
