"""Agreement of predicted numbers with measured ones: MAE, R2, and Bland and Altman's limits of agreement.

Errors are prediction less truth. As for classes, metrics are reported for frames, clips and patients, and intervals
resample groups (patients), never frames.
"""

from collections.abc import Mapping

import numpy as np

from usbackbones.metrics.classification import Ids, by_level, interval

METRICS = ("mae", "r2", "bias", "limit_low", "limit_high")
"""MAE, bias and limits are in the unit of the label. For MAE lower is better, for R2 higher."""
LIMITS = 1.96
"""Standard deviations between the bias and the limits of agreement, which hold 95 % of normal errors."""


def scores(y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids) -> dict[str, dict[str, float]]:
    """Every metric at every level.

    Args:
        y: float [N], the true number of each frame.
        predicted: float [N].
        clips: [N]; all frames of a clip have one number.
        groups: [N], the patient; one with clips of several numbers counts once for each.

    Returns:
        {level: {metric: value}}.
    """
    return {
        level: {
            metric: float(value[0])
            for metric, value in _resampled(truth, p[:, 0], np.zeros(len(truth), int), np.ones((1, 1))).items()
        }
        for level, (truth, p, _) in by_level(y, predicted[:, None], clips, groups).items()
    }


def metrics(
    y: np.ndarray, predicted: np.ndarray, clips: Ids, groups: Ids, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Every metric at every level with its 95 % interval over groups: {level: {metric: {"value", "low", "high"}}}."""
    values = scores(y, predicted, clips, groups)
    return {
        level: with_intervals(values[level], bootstrap(truth, p[:, 0], of, seed=seed))
        for level, (truth, p, of) in by_level(y, predicted[:, None], clips, groups).items()
    }


def with_intervals(values: Mapping[str, float], drawn: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Each metric with the interval of its bootstrap samples."""
    intervals = {metric: interval(drawn[metric]) for metric in values}
    return {
        metric: {"value": value, "low": intervals[metric][0], "high": intervals[metric][1]}
        for metric, value in values.items()
    }


def bootstrap(
    y: np.ndarray, predicted: np.ndarray, groups: Ids, resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """The metrics under resampling of whole groups with replacement: {metric: float64 [R]}.

    Two models evaluated on the same rows with the same seed meet the same resamples, so the difference of their arrays
    is the paired difference.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(float)
    return _resampled(y, predicted, group, times)


def _resampled(y: np.ndarray, predicted: np.ndarray, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics when group g is taken times[r, g] times, for each r: {metric: [R]}; nan where there are too few rows.

    All are functions of sums over groups, which are made once.
    """
    error, level = predicted - y, y - y.mean()
    sums = np.stack(
        [np.bincount(group, values, times.shape[1]) for values in
         (np.ones_like(error), np.abs(error), error, error**2, level, level**2)]
    )  # fmt: skip
    n, absolute, total, squares, levels, level_squares = sums @ times.T
    with np.errstate(divide="ignore", invalid="ignore"):
        bias = total / n
        deviation = np.sqrt(np.maximum(squares - n * bias**2, 0) / (n - 1))
        spread = level_squares - levels**2 / n
        r2 = np.where(spread > 1e-12 * np.maximum(level_squares, 1e-300), 1 - squares / spread, np.nan)
    return {
        "mae": absolute / n,
        "r2": r2,
        "bias": bias,
        "limit_low": bias - LIMITS * deviation,
        "limit_high": bias + LIMITS * deviation,
    }
