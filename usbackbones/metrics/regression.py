"""Agreement of predicted numbers with measured ones: MAE, R2, and Bland and Altman's limits of agreement.

Errors are prediction less truth.
"""

import numpy as np

METRICS = ("mae", "r2", "bias", "limit_low", "limit_high")
"""MAE, bias and limits are in the unit of the label. For MAE lower is better, for R2 higher."""
LIMITS = 1.96
"""Standard deviations between the bias and the limits of agreement, which hold 95 % of normal errors."""


def resampled(y: np.ndarray, predicted: np.ndarray, group: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
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
