"""The metrics of a row: of every member (network, repeat) its value, and the bootstrap over groups of their mean."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from training.benchmark.task import Kind, Part
from usbackbones.metrics.classification import LEVELS, METRICS, bootstrap, by_level, scores

LEVELS_OF: dict[Kind, tuple[str, ...]] = {"classes": LEVELS, "number": ("frame",)}
METRICS_OF: dict[Kind, tuple[str, ...]] = {"classes": METRICS, "number": ("mae", "r2")}
Measured = dict[tuple[str, str], tuple[list[float], np.ndarray]]
"""For each (level, metric) the value of each member, and samples [R] of the mean over members."""


def measured(members: Sequence[np.ndarray], part: Part, kind: Kind, resamples: int, seed: int) -> Measured:
    """The metrics of predictions for the frames of a part.

    Args:
        members: probabilities float [N, C], or measured quantities float [N] in the unit of the labels.
        part: the frames and their labels.
        kind: of the task.
        resamples: of the bootstrap over groups; with the same seed two models meet the same ones.
        seed: of the bootstrap.
    """
    if kind == "number":
        return _errors(members, part, resamples, seed)
    values = [scores(part.label, probability, part.clip, part.group) for probability in members]
    levels = [by_level(part.label, probability, part.clip, part.group) for probability in members]
    draws = {}
    for level in LEVELS:
        truth, _, groups = levels[0][level]
        draws[level] = bootstrap(truth, [of_member[level][1] for of_member in levels], groups, resamples, seed)
    return {
        (level, metric): ([value[level][metric] for value in values], draws[level][metric])
        for level, metric in product(LEVELS, METRICS)
    }


def _errors(members: Sequence[np.ndarray], part: Part, resamples: int, seed: int) -> Measured:
    """Mean absolute error in the told unit, and R², of frames.

    Both are functions of sums over groups, which are made once: a resample costs a product.
    """
    names, group = np.unique(part.group, return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(float)
    times = np.concatenate([np.ones((1, len(names))), drawn])  # the first row is the sample itself
    truth = part.label * part.unit
    found = []
    for member in members:
        error = member * part.unit - truth
        terms = np.stack([np.ones_like(error), np.abs(error), error**2, truth, truth**2], axis=1)
        sums = np.zeros((len(names), terms.shape[1]))
        np.add.at(sums, group, terms)
        count, absolute, squared, total, squares = (times @ sums).T
        found.append({"mae": absolute / count, "r2": 1 - squared / np.maximum(squares - total**2 / count, 1e-12)})
    return {
        ("frame", metric): ([float(one[metric][0]) for one in found], np.mean([one[metric][1:] for one in found], 0))
        for metric in METRICS_OF["number"]
    }
