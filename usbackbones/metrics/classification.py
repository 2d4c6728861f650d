"""Classification metrics as functions of sums over groups: balanced accuracy, macro-F1, AUROC, calibration error."""

import numpy as np

METRICS = ("balanced_accuracy", "macro_f1", "auroc", "ece")
"""The higher the better, but for the last: the expected calibration error."""
BINS = 15
"""Of the calibration error, equally wide."""


def resampled(y: np.ndarray, probability: np.ndarray, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics when group g is taken times[r, g] times, for each r: {metric: float64 [R]}.

    All are functions of sums over groups: of confusion counts, for AUROC of the won pairs between the rows of one
    group and of another, for the calibration error of hits and confidence in each bin. The sums are made once and a
    resample costs a matrix product.

    Args:
        y: int [N], the true class of each row.
        probability: float [N, C]; the prediction is the most probable class.
        group: int [N].
        times: float [R, G].
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
