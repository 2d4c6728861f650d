"""Evaluate frozen backbones on labelled clips: probes on groups that they never saw, and backbones compared in pairs.

Every item is predicted by probes fitted without its group. Its label is read where the metrics are made, nowhere else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from torch import nn
from tqdm import tqdm

from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import levels, told_patients, unit
from usbackbones.data.splits import assert_disjoint, group_labels, grouped_folds
from usbackbones.features.extract import embed
from usbackbones.metrics.levels import Numbers, difference, measure, numbers
from usbackbones.probing.held_out import Division, Rows, predict_held_out


@dataclass(frozen=True)
class ProbeSpec:
    """How backbones are probed.

    Attributes:
        folds: of the groups, where the data do not say what the test part is.
        per_clip: frames of a clip, evenly spread.
        shots: as `few_shot.labeled_rows` takes them; none by default; for classes alone.
        repeats: draws of each.
        batch: frames embedded at a time.
        seed: of the folds, the draws and the intervals.
        clean: cut clips to their sector and black text and calipers out.
    """

    folds: int = 5
    per_clip: int = 8
    shots: tuple[str, ...] = ()
    repeats: int = 5
    batch: int = 32
    seed: int = 0
    clean: bool = False


@dataclass
class Probed:
    """Result of a probing run.

    Attributes:
        classes: names, in the order of the probabilities; empty where labels are numbers.
        counts: {class: {"items", "groups"}} that were evaluated; numbers are all of the class "number".
        groups: that were evaluated; two that near-duplicates join are still two.
        metrics: {model: {probe: Numbers}}; probes are "knn", "linear" and, with few labels, "knn 5 shots" and so on;
            "ridge" for numbers.
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
    groups: int = 0

    @property
    def level(self) -> str:
        """The level of the headline numbers: "patient" where somebody tells patients apart, else "clip"."""
        return "patient" if self.unit else "clip"


def divisions(items: Sequence[Item], folds: int, seed: int) -> list[Division]:
    """The test part that the data name against the rest of them, or else folds of whole groups.

    Raises:
        DataError: if a group is on both sides, or a class would be evaluated without ever having been fitted.
    """
    groups, labels = [item.group for item in items], [item.label for item in items]
    if any(item.part for item in items):
        test = np.array([item.part == "test" for item in items])
        if not all(item.part for item in items) or test.all() or not test.any():
            raise DataError("the column split must say for every row whether it is train, validation or test")
        assert_disjoint(*(np.array(groups)[side] for side in (~test, test)))
        if missing := {item.label for item in items} - set(np.array(labels)[~test]):
            raise DataError(f"there is no item to fit {', '.join(sorted(missing))} on: give some of them another split")
        return [(np.flatnonzero(~test), np.flatnonzero(test))]
    of_class = Counter(group_labels(groups, labels).values())
    if few := [label for label in sorted(set(labels)) if of_class[label] < 2]:
        raise DataError(f"{', '.join(few)}: give two groups of a class at least, one to fit on and one to evaluate on")
    return grouped_folds(groups, labels, min(folds, len(set(groups))), seed)


@dataclass(frozen=True)
class Evaluation:
    """Backbones after their probes.

    Attributes:
        done: the numbers.
        features: float32 [N, D] of each model, one row a frame.
        rows: what is known of each frame; its clip is the place of its item.
        order: int [M], the evaluated rows.
        predicted: {model: {probe: predictions of the evaluated rows, one for each repeat}}.
    """

    done: Probed
    features: dict[str, np.ndarray]
    rows: Rows
    order: np.ndarray
    predicted: dict[str, dict[str, list[np.ndarray]]]


def evaluate(
    items: Sequence[Item],
    frames: Frames,
    models: dict[str, nn.Module],
    spec: ProbeSpec,
    values: np.ndarray | None = None,
    progress: bool = False,
    given: Sequence[Item] | None = None,
) -> Evaluation:
    """Embed the frames by every model, fit its probes, and compare the models in pairs.

    Args:
        items: from `dataset.read_items`, near-duplicates in one group.
        frames: of the items, in their order.
        models: by the name to show, any timm models; on whatever device they are.
        spec: how.
        values: float [items], where what is predicted is a number.
        progress: show a bar of each model's frames and one of its fits.
        given: the items as they were before near-duplicates were joined, by which patients are counted.

    Raises:
        DataError: if the data cannot be divided without a leak.
    """
    parts, given = divisions(items, spec.folds, spec.seed), given or items
    classes = sorted({item.label for item in items}) if values is None else []
    label = np.array([classes.index(item.label) for item in items]) if values is None else values
    group = np.array([item.group for item in items])
    rows = Rows(label[frames.item], frames.item, group[frames.item], classes)
    places = [
        (np.flatnonzero(np.isin(frames.item, fit)), np.flatnonzero(np.isin(frames.item, held))) for fit, held in parts
    ]
    if classes and any(len(set(rows.label[fit])) < 2 for fit, held in places if len(held)):
        raise DataError("a division has a single class to fit on: give more groups of each class, or fewer folds")
    order = np.concatenate([held for _, held in places])
    features, predicted, measured = {}, {}, {}
    for name, model in models.items():
        every = tqdm(range(len(frames.item)), f"{name}, embedding", unit="frame", disable=not progress)
        x = features[name] = embed(model, (frames[row] for row in every), spec.batch)
        of_probe = predicted[name] = dict[str, list[np.ndarray]]()
        folds = tqdm(places, f"{name}, fitting", unit="fold", disable=not progress)
        found = predict_held_out(x, rows, folds, None, spec.shots, spec.repeats, spec.seed)
        for (probe, shots, _), member in found.members.items():
            of_probe.setdefault(f"{probe} {shots} shots" if shots else probe, []).append(member[order])
        known = rows.label[order], rows.clip[order], rows.group[order]
        measured[name] = {
            probe: measure(known[0], members, *known[1:], levels(items), seed=spec.seed)
            for probe, members in of_probe.items()
        }
    evaluated = [given[number] for number in np.unique(frames.item[order])]
    done = Probed(
        tuple(classes),
        _counts(evaluated, classes),
        {name: {probe: numbers(one) for probe, one in of_probe.items()} for name, of_probe in measured.items()},
        {
            f"{a} - {b}": {probe: difference(one, measured[b][probe]) for probe, one in measured[a].items()}
            for a, b in combinations(models, 2)
        },
        tuple(frames.skipped),
        patients=told_patients(given),
        unit=unit(given),
        groups=len({item.group for item in evaluated}),
    )
    return Evaluation(done, features, rows, order, predicted)


def _counts(items: Sequence[Item], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    of_label: dict[str, Sequence[Item]] = {label: [item for item in items if item.label == label] for label in classes}
    of_label = of_label or {"number": items}
    return {
        label: {"items": len(own), "groups": len({item.group for item in own})}
        for label, own in of_label.items()
        if own
    }
