"""How a backbone is judged on a task: frozen features, kNN and linear probe, frames and clips, intervals over groups.

The guard is `predict`: of the locked part it is handed the frames alone, so no label of that part can reach a fit or a
choice. `judge` reads the labels afterwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from torch import nn

from training.benchmark.tasks import Part, Task
from usbackbones.probe import embed, knn_predict, linear_predict
from usbackbones.scores import METRICS, bootstrap, by_clip, interval, scores
from usbackbones.splits import grouped_folds

PROBES = ("knn", "linear")
LEVELS = ("frame", "clip")


@dataclass(frozen=True)
class Protocol:
    """How a row of the table is made.

    Attributes:
        part: "test" fits on the pretraining part and judges on the locked one; "inner" cross-validates inside the
            pretraining part.
        folds: of the inner part.
        repeats: how often the inner part is divided anew.
        resamples: of the bootstrap over groups.
        seed: of folds and bootstrap.
        bf16: compute features in bfloat16.
    """

    part: Literal["inner", "test"] = "inner"
    folds: int = 5
    repeats: int = 3
    resamples: int = 2000
    seed: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class Predictions:
    """What the probes say about the judged frames, made before anybody looks at the labels of those frames.

    Attributes:
        probability: for each probe one float [N, C] for each network and, on the inner part, each repeat.
        penalties: the C that each fitted linear probe chose.
    """

    probability: dict[str, list[np.ndarray]]
    penalties: list[float]


def predict(models: Iterable[nn.Module], task: Task, protocol: Protocol) -> Predictions:
    """Fit the probes on the frozen features of each network and predict the judged part.

    Here is the guard: of the locked part nothing but the frames is read, and each is only ever predicted.
    """
    out = Predictions({probe: [] for probe in PROBES}, [])
    known = task.pretrain
    locked = task.test.frames if protocol.part == "test" else None
    for model in models:
        features = embed(model, known.frames, bf16=protocol.bf16)
        judged = features if locked is None else embed(model, locked, bf16=protocol.bf16)
        for folds in _divisions(task, protocol, len(judged)):
            whole = {probe: np.empty((len(judged), len(task.classes))) for probe in PROBES}
            for fit, held in folds:
                x, y, classes = features[fit], known.label[fit], len(task.classes)
                whole["knn"][held] = knn_predict(x, y, judged[held], classes=classes)
                whole["linear"][held], penalty = linear_predict(
                    x, y, known.group[fit], judged[held], known.clip[fit], classes=classes
                )
                out.penalties.append(penalty)
            for probe in PROBES:
                out.probability[probe].append(whole[probe])
    return out


def _divisions(task: Task, protocol: Protocol, judged: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Rows to fit on and rows to judge: one pair for the locked part, `repeats` times `folds` for the inner one."""
    known = task.pretrain
    if protocol.part == "test":
        return [[(np.arange(len(known.label)), np.arange(judged))]]
    names = [task.classes[label] for label in known.label]
    return [
        grouped_folds(known.group.tolist(), names, protocol.folds, protocol.seed + repeat)
        for repeat in range(protocol.repeats)
    ]


def judge(
    predictions: Predictions, task: Task, protocol: Protocol, reference: Predictions | None = None
) -> dict[str, Any]:
    """Compare predictions with the labels: {probe: {level: {metric: {"value", "low", "high", "members"}}}}.

    "value" is the mean over the members (networks, repeats), "members" their own values, "low" and "high" the 95 %
    interval over groups. With a reference, "difference" holds the first three for the paired difference to it.
    """
    part = task.test if protocol.part == "test" else task.pretrain
    row: dict[str, Any] = {}
    for probe in PROBES:
        mine = _measured(predictions.probability[probe], part, protocol)
        other = _measured(reference.probability[probe], part, protocol) if reference else None
        row[probe] = {level: {} for level in LEVELS}
        for level, metric in product(LEVELS, METRICS):
            members, samples = mine[level, metric]
            entry: dict[str, Any] = _numbers(members, samples) | {"members": members}
            if other:
                values, drawn = other[level, metric]
                entry["difference"] = _numbers([float(np.mean(members) - np.mean(values))], samples - drawn)
            row[probe][level][metric] = entry
    return row


def _measured(
    members: list[np.ndarray], part: Part, protocol: Protocol
) -> dict[tuple[str, str], tuple[list[float], np.ndarray]]:
    """For each (level, metric) the value of each member and the bootstrap samples of their mean."""
    values = [scores(part.label, probability, part.clip) for probability in members]
    pooled = [by_clip(part.label, probability, part.clip, part.group) for probability in members]
    draws = {
        "frame": bootstrap(part.label, members, part.group, protocol.resamples, protocol.seed),
        "clip": bootstrap(
            pooled[0][0], [clips[1] for clips in pooled], pooled[0][2], protocol.resamples, protocol.seed
        ),
    }
    return {
        (level, metric): ([value[level][metric] for value in values], draws[level][metric])
        for level, metric in product(LEVELS, METRICS)
    }


def _numbers(members: list[float], samples: np.ndarray) -> dict[str, float]:
    low, high = interval(samples)
    return {"value": float(np.mean(members)), "low": low, "high": high}


def evaluate_backbone(
    models: nn.Module | Iterable[nn.Module],
    task: Task,
    part: Literal["inner", "test"] = "inner",
    reference: Predictions | None = None,
    **protocol: Any,
) -> dict[str, Any]:
    """One row of the table, for studies: the task keeps its frames, so further calls decode nothing.

    Args:
        models: a network, or several that count as one row (seeds).
        task: as from `training.benchmark.tasks.lung_task`; for a backbone whose pretraining left some groups out,
            `task.holding_out(groups)` with part="test".
        part: "inner" for every choice; "test" of the whole task once, at the end.
        reference: what `predict` returns for the networks to take the paired difference to, as `random_networks`.
        protocol: further fields of `Protocol`.

    Returns:
        What `judge` returns.
    """
    chosen = Protocol(part=part, **protocol)
    nets = [models] if isinstance(models, nn.Module) else models
    return judge(predict(nets, task, chosen), task, chosen, reference)
