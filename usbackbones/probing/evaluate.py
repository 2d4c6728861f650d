"""Frozen backbones judged on labelled clips: probes on groups that they never saw, and backbones compared in pairs.

Every item is predicted by probes fitted without its group. Its label is read where the metrics are made, nowhere else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from torch import nn

from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import levels, told_patients, unit
from usbackbones.data.splits import SplitError, assert_disjoint, group_labels, grouped_folds
from usbackbones.features.extract import embed
from usbackbones.metrics.classification import METRICS, bootstrap, by_level, interval, scores
from usbackbones.probing.few_shot import few_shot_predict
from usbackbones.probing.probes import knn_predict, linear_predict

Division = tuple[np.ndarray, np.ndarray]
"""Items to fit on and items to judge on, int."""
Numbers = dict[str, dict[str, dict[str, float]]]
"""{level: {metric: {"value", "low", "high"}}}."""


@dataclass(frozen=True)
class ProbeSpec:
    """How backbones are probed.

    Attributes:
        folds: of the groups, where the data do not say what the test part is.
        per_clip: frames of a clip, evenly spread.
        shots: as `fewshot.labeled_rows` takes them; none by default.
        repeats: draws of each.
        batch: frames embedded at a time.
        seed: of the folds, the draws and the intervals.
    """

    folds: int = 5
    per_clip: int = 8
    shots: tuple[str, ...] = ()
    repeats: int = 5
    batch: int = 32
    seed: int = 0


@dataclass
class Probed:
    """Result of a probing run.

    Attributes:
        classes: names, in the order of the probabilities.
        counts: judged items and groups of each class.
        metrics: {model: {probe: Numbers}}; probes are "knn", "linear" and, with few labels, "knn 5 shots" and so on.
        differences: {"first - second": {probe: Numbers}}, paired: both models meet the same resampled groups.
        skipped: clips that could not be read.
        joined: near-duplicates of different groups that were kept together, in a line; empty where there are none.
        beside: a line where container or geometry do as well as the first model, see `usbackbones.probing.null_rows`.
        was_finished: the folder held this very run, finished, and nothing was done.
        patients: how many there are and who tells them apart.
        unit: what a group is, "patient" or "group"; "" where nobody tells patients apart, and no metric is by patient.
    """

    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    metrics: dict[str, dict[str, Numbers]] = field(default_factory=dict)
    differences: dict[str, dict[str, Numbers]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    joined: str = ""
    patients: str = ""
    unit: str = ""
    beside: str = ""
    was_finished: bool = False

    @property
    def level(self) -> str:
        """The level of the headline numbers: "patient" where somebody tells patients apart, else "clip"."""
        return "patient" if self.unit else "clip"


def divisions(items: Sequence[Item], folds: int, seed: int) -> list[Division]:
    """The test part that the data name against the rest of them, or else folds of whole groups.

    Raises:
        DataError: if a group is on both sides, or a class would be judged without ever having been fitted.
    """
    groups, labels = [item.group for item in items], [item.label for item in items]
    if any(item.part for item in items):
        test = np.array([item.part == "test" for item in items])
        if not all(item.part for item in items) or test.all() or not test.any():
            raise DataError("the column split must say for every row whether it is train, validation or test")
        try:
            assert_disjoint(*(np.array(groups)[side] for side in (~test, test)))
        except SplitError as error:
            raise DataError(str(error)) from error
        if missing := {item.label for item in items} - set(np.array(labels)[~test]):
            raise DataError(f"there is no item to fit {', '.join(sorted(missing))} on: give some of them another split")
        return [(np.flatnonzero(~test), np.flatnonzero(test))]
    of_class = Counter(group_labels(groups, labels).values())
    if few := [label for label in sorted(set(labels)) if of_class[label] < 2]:
        raise DataError(f"{', '.join(few)}: give two groups of a class at least, one to fit on and one to judge on")
    try:
        return grouped_folds(groups, labels, min(folds, len(set(groups))), seed)
    except SplitError as error:
        raise DataError(str(error)) from error


@dataclass(frozen=True)
class Judged:
    """Backbones after their probes.

    Attributes:
        done: the numbers.
        features: float32 [N, D] of each model, one row a frame.
        rows: what is known of each frame.
        predicted: the predictions of each model's probes.
    """

    done: Probed
    features: dict[str, np.ndarray]
    rows: "Rows"
    predicted: dict[str, dict[str, "Members"]]


def judge(items: Sequence[Item], frames: Frames, models: dict[str, nn.Module], spec: ProbeSpec) -> Judged:
    """Embed the frames by every model, fit its probes, and compare the models in pairs.

    Args:
        items: from `dataset.read_items`, near-duplicates in one group.
        frames: of the items, in their order.
        models: by the name to show, any timm models; on whatever device they are.
        spec: how.

    Raises:
        DataError: if the data cannot be divided without a leak.
    """
    parts = divisions(items, spec.folds, spec.seed)
    features = {
        name: embed(model, (frames[row] for row in range(len(frames.item))), spec.batch)
        for name, model in models.items()
    }
    classes = sorted({item.label for item in items})
    rows = Rows(items, frames.item, classes)
    judged = sorted({number for _, test in parts for number in test} & set(frames.item))
    done = Probed(
        tuple(classes),
        _counts([items[number] for number in judged]),
        skipped=tuple(frames.skipped),
        patients=told_patients(items),
        unit=unit(items),
    )
    predicted = {name: _predict(x, rows, parts, spec) for name, x in features.items()}
    drawn: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {}
    for name, of_probe in predicted.items():
        told = {kind: _judge(members, rows, levels(items), spec.seed) for kind, members in of_probe.items()}
        done.metrics[name] = {kind: numbers for kind, (numbers, _) in told.items()}
        drawn[name] = {kind: samples for kind, (_, samples) in told.items()}
    for first, second in combinations(models, 2):
        done.differences[f"{first} - {second}"] = {
            kind: _difference(done.metrics, drawn, first, second, kind) for kind in done.metrics[first]
        }
    return Judged(done, features, rows, predicted)


class Rows:
    """What is known of each frame."""

    def __init__(self, items: Sequence[Item], item: np.ndarray, classes: Sequence[str]) -> None:
        self.item = item
        self.label = np.array([classes.index(items[number].label) for number in item])
        self.group = np.array([items[number].group for number in item])
        self.classes = list(classes)


Members = list[tuple[np.ndarray, np.ndarray]]
"""Of one probe, for each repeat: the judged rows, and their probabilities [M, C]."""


def _predict(x: np.ndarray, rows: Rows, parts: Sequence[Division], spec: ProbeSpec) -> dict[str, Members]:
    """The predictions of every probe; a repeat is whole when all divisions have added to it."""
    found: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for train, test in parts:
        fit, held = (np.flatnonzero(np.isin(rows.item, side)) for side in (train, test))
        if len(held):
            for kind, repeat, probability in _fit(x, rows, fit, held, spec):
                found.setdefault((kind, repeat), []).append((held, probability))
    members: dict[str, Members] = {}
    for (kind, _), pieces in found.items():
        order = np.concatenate([held for held, _ in pieces])
        members.setdefault(kind, []).append((order, np.concatenate([probability for _, probability in pieces])))
    return members


def _fit(
    x: np.ndarray, rows: Rows, fit: np.ndarray, held: np.ndarray, spec: ProbeSpec
) -> Iterator[tuple[str, int, np.ndarray]]:
    """(probe, repeat, probabilities) of the held rows, from the labels of the others alone."""
    y, groups, clips, count = rows.label[fit], rows.group[fit], rows.item[fit], len(rows.classes)
    if len(set(y)) < 2:
        raise DataError("a division has a single class to fit on: give more groups of each class, or fewer folds")
    yield "knn", 0, knn_predict(x[fit], y, x[held], classes=count)
    yield "linear", 0, linear_predict(x[fit], y, groups, x[held], clips, classes=count)[0]
    few = few_shot_predict(x[fit], y, groups, x[held], clips, spec.shots, spec.repeats, count, spec.seed)
    for shots, repeat, near, line in few:
        yield f"knn {shots} shots", repeat, near
        yield f"linear {shots} shots", repeat, line


def _judge(
    members: Members, rows: Rows, shown: Iterable[str], seed: int
) -> tuple[Numbers, dict[str, dict[str, np.ndarray]]]:
    """The metrics of some levels, means over repeats, with 95 % intervals over groups, and the resamples below them."""
    order = members[0][0]  # the same for every repeat
    y, clips, groups = rows.label[order], rows.item[order], rows.group[order]
    values = [scores(y, probability, clips, groups) for _, probability in members]
    told = [by_level(y, probability, clips, groups) for _, probability in members]
    numbers: Numbers = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    for level in shown:
        truth, _, of = told[0][level]
        samples[level] = bootstrap(truth, [member[level][1] for member in told], of, seed=seed)
        numbers[level] = {
            metric: _number(float(np.mean([value[level][metric] for value in values])), samples[level][metric])
            for metric in METRICS
        }
    return numbers, samples


def _difference(metrics: Any, drawn: Any, first: str, second: str, kind: str) -> Numbers:
    """First less second, with the interval of the paired differences."""
    one, other = metrics[first][kind], metrics[second][kind]
    return {
        level: {
            metric: _number(
                one[level][metric]["value"] - other[level][metric]["value"],
                drawn[first][kind][level][metric] - drawn[second][kind][level][metric],
            )
            for metric in METRICS
        }
        for level in one
    }


def _number(value: float, samples: np.ndarray) -> dict[str, float]:
    low, high = interval(samples)
    return {"value": value, "low": low, "high": high}


def _counts(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    return {
        label: {
            "items": sum(item.label == label for item in items),
            "groups": len({item.group for item in items if item.label == label}),
        }
        for label in sorted({item.label for item in items})
    }
