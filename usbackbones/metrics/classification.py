"""Classification metrics of frames, clips and patients, with bootstrap intervals over groups.

Frames of one clip are near copies of each other; hence scores are told for frames, for clips and for patients, and
intervals resample groups (patients), never frames.
"""

from collections.abc import Sequence

import numpy as np

Ids = Sequence[str] | np.ndarray
"""One name a row, of the clip or of the group that the row belongs to."""
METRICS = ("balanced_accuracy", "macro_f1", "auroc", "ece")
"""The higher the better, but for the last: the expected calibration error."""
LEVELS = ("frame", "clip", "patient")
BINS = 15
"""Of the calibration error, equally wide."""


def by_clip(
    y: np.ndarray, probability: np.ndarray, clips: Ids, groups: Ids
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From frames to clips: (label, mean probability over the clip's frames, group) of each clip."""
    _, first, unit = np.unique(np.asarray(clips), return_index=True, return_inverse=True)
    total = np.zeros((len(first), probability.shape[1]))
    np.add.at(total, unit, probability)
    return y[first], total / np.bincount(unit)[:, None], np.asarray(groups)[first]


def by_level(
    y: np.ndarray, probability: np.ndarray, clips: Ids, groups: Ids
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(label, probability, group) of each frame, each clip and each patient.

    A patient is predicted by the mean over the frames, as a clip is; one with clips of several labels counts once for
    each of them.
    """
    patients = [f"{group}\0{label}" for group, label in zip(groups, y, strict=True)]
    return {
        "frame": (y, probability, np.asarray(groups)),
        "clip": by_clip(y, probability, clips, groups),
        "patient": by_clip(y, probability, patients, groups),
    }


def scores(y: np.ndarray, probability: np.ndarray, clips: Ids, groups: Ids) -> dict[str, dict[str, float]]:
    """Balanced accuracy, macro-F1, macro one-against-the-rest AUROC and calibration error, at every level.

    Args:
        y: int [N], the true class of each frame.
        probability: float [N, C]; the prediction is the most probable class.
        clips: [N]; all frames of a clip have one label.
        groups: [N], the patient.

    Returns:
        {level: {metric: value}}, for `LEVELS` and `METRICS`.
    """
    return {
        level: {
            metric: float(value[0])
            for metric, value in _resampled(truth, p, np.zeros(len(truth), int), np.ones((1, 1))).items()
        }
        for level, (truth, p, _) in by_level(y, probability, clips, groups).items()
    }


def metrics(
    y: np.ndarray, probability: np.ndarray, clips: Ids, groups: Ids, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Every metric at every level with its 95 % interval over groups: {level: {metric: {"value", "low", "high"}}}."""
    values = scores(y, probability, clips, groups)
    result: dict[str, dict[str, dict[str, float]]] = {level: {} for level in LEVELS}
    for level, (truth, p, of) in by_level(y, probability, clips, groups).items():
        drawn = bootstrap(truth, [p], of, seed=seed)
        for metric in METRICS:
            low, high = interval(drawn[metric])
            result[level][metric] = {"value": values[level][metric], "low": low, "high": high}
    return result


def bootstrap(
    y: np.ndarray,
    members: Sequence[np.ndarray],
    groups: Ids,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The metrics under resampling of whole groups with replacement.

    Two models judged on the same rows with the same seed meet the same resamples, so the difference of their arrays
    is the paired difference. A class that a resample lacks is left out of that resample's means over classes; where
    fewer than two classes are left AUROC is nan, which `interval` passes over. With few groups of a class a
    percentile interval is too narrow; it also says nothing about another hospital.

    Args:
        y: int [N].
        members: predictions float [N, C] for the same rows, as of several seeds or repeats; metrics are averaged
            over them inside each resample.
        groups: [N].
        resamples: number of resamples R.
        seed: of the draw.

    Returns:
        {metric: float64 [R]}.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(float)
    runs = [_resampled(y, probability, group, times) for probability in members]
    return {metric: np.mean([run[metric] for run in runs], axis=0) for metric in METRICS}


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples."""
    low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(y: np.ndarray, probability: np.ndarray, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics when group g is taken times[r, g] times, for each r: {metric: [R]}.

    All are functions of sums over groups: of confusion counts, for AUROC of the won pairs between the rows of one
    group and of another, for the calibration error of hits and confidence in each bin. The sums are made once and a
    resample costs a matrix product.
    """
    classes, groups = probability.shape[1], times.shape[1]
    predicted = probability.argmax(axis=1)
    confusion = np.zeros((groups, classes, classes))
    np.add.at(confusion, (group, y, predicted), 1)
    table = np.tensordot(times, confusion, 1)  # [R, truth, prediction]
    support, called, right = table.sum(2), table.sum(1), np.diagonal(table, axis1=1, axis2=2)
    present = support > 0
    others = support.sum(1, keepdims=True) - support
    wins = np.stack(
        [
            np.einsum("rg,gh,rh->r", times, _won_pairs(probability[:, c], y == c, group, groups), times, optimize=True)
            for c in range(classes)
        ],
        axis=1,
    )
    return {
        "balanced_accuracy": _mean_over_classes(right, support, present),
        "macro_f1": _mean_over_classes(2 * right, support + called, present),
        "auroc": _mean_over_classes(wins, support * others, present & (others > 0)),
        "ece": _calibration_error(y == predicted, probability.max(axis=1), group, times),
    }


def _calibration_error(hit: np.ndarray, confidence: np.ndarray, group: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al., ICML 2017) of the predicted class, in each resample [R].

    Sum over bins of their share of the rows times |accuracy - mean confidence|, which is |hits - confidence| / N.
    """
    groups = times.shape[1]
    cell = group * BINS + np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    excess = np.bincount(cell, hit - confidence, groups * BINS).reshape(groups, BINS)
    return np.abs(times @ excess).sum(1) / (times @ np.bincount(group, minlength=groups))


def _mean_over_classes(numerator: np.ndarray, denominator: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean of the ratios [R, C] over the valid classes; nan where there is none."""
    ratio = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=valid)
    return np.where(valid.any(1), ratio.sum(1) / np.maximum(valid.sum(1), 1), np.nan)


def _won_pairs(score: np.ndarray, positive: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """[G, G]: pairs (positive row of group g, negative row of group h) with the higher score first, ties half."""
    won = np.zeros((groups, groups))
    negative, negative_group = score[~positive], group[~positive]
    for g in np.unique(group[positive]):
        mine = np.sort(score[positive & (group == g)])
        above = len(mine) - np.searchsorted(mine, negative, "right")
        level_or_above = len(mine) - np.searchsorted(mine, negative, "left")
        won[g] = np.bincount(negative_group, (above + level_or_above) / 2, groups)
    return won
