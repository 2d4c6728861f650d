"""Errors of measured quantities and their intervals, against slow forms."""

import numpy as np
import pytest

from training.benchmark.metrics import measured
from training.benchmark.task import Part


@pytest.fixture
def part():
    rng = np.random.default_rng(0)
    group = np.repeat([f"g{g}" for g in range(12)], rng.integers(1, 5, 12))
    frames = np.zeros((len(group), 2, 2), np.uint8)
    return Part(frames, rng.normal(100, 20, len(group)), group, group, rng.uniform(0.1, 0.3, len(group)))


def slow(part, prediction, rows):
    truth, told = (part.label * part.unit)[rows], (prediction * part.unit)[rows]
    absolute = np.mean([abs(a - b) for a, b in zip(truth, told, strict=True)])
    return absolute, 1 - ((truth - told) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()


def test_errors_and_their_resamples_are_the_slow_ones(part):
    members = [part.label + np.random.default_rng(seed).normal(0, 5, len(part.label)) for seed in (1, 2)]
    found = measured(members, part, "number", 40, seed=7)
    names = np.unique(part.group)
    times = np.random.default_rng(7).multinomial(len(names), np.full(len(names), 1 / len(names)), 40)
    for position, metric in enumerate(("mae", "r2")):
        values, samples = vars(found["frame"][metric]).values()
        np.testing.assert_allclose(values, [slow(part, m, np.arange(len(part.group)))[position] for m in members])
        for sample, drawn in zip(samples, times, strict=True):
            rows = np.concatenate([np.flatnonzero(part.group == name) for name in np.repeat(names, drawn)])
            assert sample == pytest.approx(np.mean([slow(part, m, rows)[position] for m in members]))


def test_a_perfect_prediction_has_no_error(part):
    found = measured([part.label], part, "number", 5, 0)
    assert found["frame"]["mae"].members == [0] and found["frame"]["r2"].members == [1]
