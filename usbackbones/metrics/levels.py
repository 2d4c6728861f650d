"""Metrics of frames, clips and patients for classes or numbers, with 95 % intervals and paired differences.

Frames of one clip are near copies of each other; hence metrics are given for frames, for clips and for patients, and
intervals resample groups (patients), never frames.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from usbackbones.metrics import classification, regression
from usbackbones.metrics.resampling import Ids, draw_groups, with_interval

LEVELS = ("frame", "clip", "patient")
Numbers = dict[str, dict[str, dict[str, float]]]
"""{level: {metric: {"value", "low", "high"}}}."""


def by_clip(y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From frames to clips: (label, mean prediction [clips, C] over the clip's frames, group) of each clip."""
    _, first, unit = np.unique(np.asarray(clips), return_index=True, return_inverse=True)
    total = np.zeros((len(first), predicted.shape[1]))
    np.add.at(total, unit, predicted)
    return y[first], total / np.bincount(unit)[:, None], np.asarray(groups)[first]


def by_level(
    y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(label, prediction, group) of each frame, each clip and each patient.

    A patient is predicted by the mean over the frames, as a clip is; one with clips of several labels counts once for
    each of them.

    Args:
        y: [N], the label of each frame.
        predicted: float [N, C], probabilities, or float [N], numbers.
        clips: [N]; all frames of a clip have one label.
        groups: [N], the patient.
    """
    if predicted.ndim == 1:
        found = by_level(y, predicted[:, None], clips, groups)
        return {level: (truth, mean[:, 0], of) for level, (truth, mean, of) in found.items()}
    patients = [f"{group}\0{label}" for group, label in zip(groups, y, strict=True)]
    return {
        "frame": (y, predicted, np.asarray(groups)),
        "clip": by_clip(y, predicted, clips, groups),
        "patient": by_clip(y, predicted, patients, groups),
    }


def _resampled(y: np.ndarray, predicted: np.ndarray, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    of_kind = regression.resampled if predicted.ndim == 1 else classification.resampled
    return of_kind(y, predicted, group, times)


def scores(y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids) -> dict[str, dict[str, float]]:
    """Every metric of `classification` or, for numbers, of `regression` at every level; arguments as for `by_level`.

    Returns:
        {level: {metric: value}}, for `LEVELS` and the METRICS of the kind.
    """
    return {
        level: {
            metric: float(value[0])
            for metric, value in _resampled(truth, p, np.zeros(len(truth), int), np.ones((1, 1))).items()
        }
        for level, (truth, p, _) in by_level(y, predicted, clips, groups).items()
    }


def bootstrap(
    y: np.ndarray, members: Sequence[np.ndarray], groups: Ids, resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """The metrics under resampling of whole groups with replacement.

    Two models evaluated on the same rows with the same seed meet the same resamples, so the difference of their arrays
    is the paired difference. A class that a resample lacks is left out of that resample's means over classes; where
    fewer than two classes are left AUROC is nan, which `interval` passes over. With few groups of a class a
    percentile interval is too narrow; it also says nothing about another hospital.

    Args:
        y: [N], classes or numbers.
        members: predictions for the same rows, as of several seeds or repeats; metrics are averaged over them inside
            each resample.
        groups: [N].
        resamples: number of resamples R.
        seed: of the draw.

    Returns:
        {metric: float64 [R]}.
    """
    group, times = draw_groups(groups, resamples, seed)
    runs = [_resampled(y, predicted, group, times) for predicted in members]
    return {metric: np.mean([run[metric] for run in runs], axis=0) for metric in runs[0]}


@dataclass(frozen=True)
class Measured:
    """A metric of one or more predictions for the same rows, as of several seeds or repeats.

    Attributes:
        members: its value for each of them.
        samples: float64 [R], their mean in each resample.
    """

    members: list[float]
    samples: np.ndarray

    @property
    def value(self) -> float:
        """The mean over the members."""
        return float(np.mean(self.members))

    def numbers(self) -> dict[str, float]:
        """{"value", "low", "high"}, the 95 % interval."""
        return with_interval(self.value, self.samples)

    def less(self, other: "Measured") -> dict[str, float]:
        """The paired difference to another prediction of the same rows, {"value", "low", "high"}."""
        return with_interval(self.value - other.value, self.samples - other.samples)


Levels = Mapping[str, Mapping[str, Measured]]
"""{level: {metric: Measured}}."""


def measure(
    y: np.ndarray,
    members: Sequence[np.ndarray],
    clips: Ids,
    groups: Ids,
    levels: Iterable[str] = LEVELS,
    resamples: int = 2000,
    seed: int = 0,
) -> Levels:
    """Every metric with its resamples, at some levels; arguments as for `by_level` and `bootstrap`."""
    values = [scores(y, predicted, clips, groups) for predicted in members]
    split = [by_level(y, predicted, clips, groups) for predicted in members]
    measured = {}
    for level in levels:
        truth, _, of = split[0][level]
        drawn = bootstrap(truth, [one[level][1] for one in split], of, resamples, seed)
        measured[level] = {key: Measured([value[level][key] for value in values], drawn[key]) for key in drawn}
    return measured


def metrics(y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids, seed: int = 0) -> Numbers:
    """Every metric of one prediction at every level, with its 95 % interval over groups."""
    return numbers(measure(y, [predicted], clips, groups, seed=seed))


def distinct(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The levels worth showing: not frames where clips are single frames, whose numbers are the same."""
    same = repr(found.get("frame")) == repr(found.get("clip"))  # as text, in which nan equals nan
    return [level for level in found if not (same and level == "frame")]


def numbers(measured: Levels) -> Numbers:
    """Means over members, with their intervals."""
    return {level: {metric: one.numbers() for metric, one in of_level.items()} for level, of_level in measured.items()}


def difference(first: Levels, second: Levels) -> Numbers:
    """First less second, paired."""
    return {
        level: {metric: one.less(second[level][metric]) for metric, one in of_level.items()}
        for level, of_level in first.items()
    }
