"""Temperature scaling of probabilities (Guo et al., ICML 2017): one number, fitted on validation groups."""

from dataclasses import dataclass

import numpy as np

FEWEST_GROUPS = 30
"""Groups below which a temperature is not fitted: it would follow the noise of a few patients."""
FOLDS = 5
"""Of the groups: each is calibrated by a temperature of the others, to see what one is worth."""
_TINY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """A temperature and its effect on the data that it was fitted on.

    Attributes:
        temperature: probabilities become softmax(log p / temperature); 1 where none is applied.
        ece_before: expected calibration error without a temperature.
        ece_after: with one, of each group by the temperature of the other folds of groups.
        groups: number of validation groups.
    """

    temperature: float
    ece_before: float
    ece_after: float
    groups: int

    @property
    def applied(self) -> bool:
        """Whether there were enough groups to fit it, and groups that it was not fitted on became no worse."""
        return self.groups >= FEWEST_GROUPS and self.ece_after <= self.ece_before

    def __str__(self) -> str:
        if self.groups < FEWEST_GROUPS:
            return f"probabilities are not calibrated: {self.groups} validation groups, {FEWEST_GROUPS} are needed"
        held_out = f"{self.groups} validation groups, each held out once"
        if not self.applied:
            return (
                f"probabilities are not calibrated: a temperature would not lower the ECE on {held_out}: "
                f"{self.ece_before:.3f} without, {self.ece_after:.3f} with"
            )
        return (
            f"probabilities calibrated by temperature {self.temperature:.2f}: "
            f"ECE {self.ece_before:.3f} before, {self.ece_after:.3f} after on {held_out}"
        )


def scaled(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [N, C] at a temperature > 0; the same function as scaling the logits that they came from."""
    logits = np.log(np.maximum(probability, _TINY)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    exponent = np.exp(logits)
    return exponent / exponent.sum(axis=1, keepdims=True)


def negative_log_likelihood(probability: np.ndarray, y: np.ndarray) -> float:
    """Mean of -log p of the true classes y, int [N]."""
    return float(-np.log(np.maximum(probability[np.arange(len(y)), y], _TINY)).mean())


def fit_temperature(probability: np.ndarray, y: np.ndarray) -> float:
    """The temperature in 0.05 .. 20 with the smallest negative log likelihood of classes y, int [N], by golden section.

    In 1/temperature the likelihood is concave, so there is one optimum; the section is on its logarithm.
    """
    low, high = np.log(0.05), np.log(20.0)
    ratio = (5**0.5 - 1) / 2

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(scaled(probability, float(np.exp(log_temperature))), y)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def calibration_error(probability: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the predicted class over equally wide bins of its probability."""
    sure, hit = probability.max(axis=1), probability.argmax(axis=1) == y
    cell = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(cell, hit - sure, bins)).sum() / len(y))


def calibrate(probability: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Calibration:
    """Fit a temperature on validation rows, probability [N, C] and class [N], if of `FEWEST_GROUPS` groups.

    It is applied only where groups that it was not fitted on become no worse.
    """
    names, group = np.unique(groups, return_inverse=True)
    before = calibration_error(probability, y) if len(y) else float("nan")
    if len(names) < FEWEST_GROUPS:
        return Calibration(1.0, before, before, len(names))
    fold = np.random.default_rng(0).permutation(len(names))[group] % FOLDS
    held_out = np.empty(probability.shape)
    for number in range(FOLDS):
        own, others = fold == number, fold != number
        held_out[own] = scaled(probability[own], fit_temperature(probability[others], y[others]))
    after = calibration_error(held_out, y)
    return Calibration(fit_temperature(probability, y) if after <= before else 1.0, before, after, len(names))
