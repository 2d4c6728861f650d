"""The metrics of a row: of every member (network, repeat) its value, and the bootstrap over groups of their mean."""

from collections.abc import Sequence

import numpy as np

from training.benchmark.task import Kind, Part
from usbackbones.metrics.levels import Levels, Measured, measure
from usbackbones.metrics.resampling import draw_groups


def measured(members: Sequence[np.ndarray], part: Part, kind: Kind, resamples: int, seed: int) -> Levels:
    """The metrics of predictions for a part's frames: probabilities float [N, C], or float [N] in the labels' unit.

    With the same seed two models meet the same resamples of groups.
    """
    if kind == "number":
        return {"frame": _errors(members, part, resamples, seed)}
    return measure(part.label, members, part.clip, part.group, resamples=resamples, seed=seed)


def _errors(members: Sequence[np.ndarray], part: Part, resamples: int, seed: int) -> dict[str, Measured]:
    """Mean absolute error in mm, and R², of frames.

    `usbackbones.metrics.regression` adds up in another order, which would change the last bits of published tables.
    """
    group, drawn = draw_groups(part.group, resamples, seed)
    times = np.concatenate([np.ones((1, drawn.shape[1])), drawn])  # the first row is the sample itself
    truth = part.label * part.unit
    found = []
    for member in members:
        error = member * part.unit - truth
        terms = np.stack([np.ones_like(error), np.abs(error), error**2, truth, truth**2], axis=1)
        sums = np.zeros((times.shape[1], terms.shape[1]))
        np.add.at(sums, group, terms)
        count, absolute, squared, total, squares = (times @ sums).T
        found.append({"mae": absolute / count, "r2": 1 - squared / np.maximum(squares - total**2 / count, 1e-12)})
    return {
        metric: Measured([float(one[metric][0]) for one in found], np.mean([one[metric][1:] for one in found], axis=0))
        for metric in ("mae", "r2")
    }
