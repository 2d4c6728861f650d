"""Sensitivity, specificity, PPV and NPV at a threshold that was fixed beforehand, with intervals over groups."""

from collections.abc import Mapping

import numpy as np

from usbackbones.metrics.resampling import Ids, draw_groups, interval

RATES = ("sensitivity", "specificity", "ppv", "npv")


def youden_threshold(probability: np.ndarray, positive: np.ndarray) -> float:
    """The threshold on validation data with the largest sensitivity + specificity - 1 (Youden, Cancer 1950).

    It lies in the middle between two neighboring probabilities, the one nearest 0.5 where several are as good.

    Raises:
        ValueError: if one of the two kinds of rows, bool [N], does not occur.
    """
    if positive.all() or not positive.any():
        raise ValueError("a threshold needs validation rows of both classes")
    values = np.unique(probability)
    cuts = np.concatenate([[0.0], (values[:-1] + values[1:]) / 2, [1.0]])
    sorted_positive, sorted_negative = np.sort(probability[positive]), np.sort(probability[~positive])
    sensitivity = 1 - np.searchsorted(sorted_positive, cuts, "left") / len(sorted_positive)
    specificity = np.searchsorted(sorted_negative, cuts, "left") / len(sorted_negative)
    index = sensitivity + specificity - 1
    best = cuts[index >= index.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def rates(
    called: np.ndarray, positive: np.ndarray, groups: Ids, resamples: int = 2000, seed: int = 0
) -> Mapping[str, dict[str, float]]:
    """{rate: {"value", "low", "high", "of"}} for `RATES` of rows called positive and rows that are, bool [N] both.

    nan where nothing is counted; "of" is the denominator. PPV and NPV depend on how frequent the positive rows are, and
    are nan where all rows are positive or none is. Whole groups [N] are resampled.
    """
    group, times = draw_groups(groups, resamples, seed)
    cells = np.zeros((times.shape[1], 2, 2))
    np.add.at(cells, (group, positive.astype(int), called.astype(int)), 1)
    drawn, whole = np.tensordot(times, cells, 1), cells.sum(0)
    places = {
        "sensitivity": ((1, 1), (1, 0)),
        "specificity": ((0, 0), (0, 1)),
        "ppv": ((1, 1), (0, 1)),
        "npv": ((0, 0), (1, 0)),
    }
    of_both_kinds = positive.any() and not positive.all()
    result = {}
    for name, (right, wrong) in places.items():
        hits, total = drawn[:, *right], drawn[:, *right] + drawn[:, *wrong]
        shares = np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0)
        of = whole[right] + whole[wrong] if of_both_kinds or name in ("sensitivity", "specificity") else 0.0
        low, high = interval(shares) if of else (np.nan, np.nan)
        result[name] = {"value": whole[right] / of if of else np.nan, "low": low, "high": high, "of": of}
    return result


def roc(probability: np.ndarray, positive: np.ndarray) -> list[tuple[float, float]]:
    """Points (1 - specificity, sensitivity) of every threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-probability, kind="stable")
    hits, misses = np.cumsum(positive[order]), np.cumsum(~positive[order])
    last = np.flatnonzero(np.diff(probability[order], append=-1.0) != 0)  # ties move together
    x, y = misses[last] / max(misses[-1], 1), hits[last] / max(hits[-1], 1)
    return [(0.0, 0.0), *((float(a), float(b)) for a, b in zip(x, y, strict=True))]
