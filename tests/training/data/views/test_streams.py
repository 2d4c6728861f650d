"""Many generators at once against NumPy's own, one at a time: the same bits, number after number."""

import numpy as np
import pytest

from training.data.views.streams import Streams

COUNT = 300
ALL = np.arange(COUNT)
KEYS = np.random.default_rng(0).integers(0, 2**32, (COUNT, 4), dtype=np.uint32)


@pytest.fixture
def both():
    """The lanes, and a generator of NumPy's for each."""
    return Streams(KEYS), [np.random.default_rng(key.tolist()) for key in KEYS]


def test_numbers_of_every_kind_in_turn_have_the_same_bits(both):
    """Halves of words stay over between the kinds, and some lanes draw more often than others."""
    lanes, slow = both
    bounds = np.random.default_rng(1).integers(1, 2**32 - 1, COUNT)
    bounds[:60] = np.arange(1, 61)  # a bound of one draws nothing
    counts = np.random.default_rng(2).integers(3, 9000, COUNT)
    counts[:40] = 3
    for turn in range(30):
        some = ALL[turn % 7 :: 3]
        assert np.array_equal(lanes.random(ALL), [rng.random() for rng in slow])
        assert np.array_equal(lanes.integers(some, bounds[some]), [slow[n].integers(bounds[n]) for n in some])
        assert np.array_equal(lanes.uniform(some, -0.3, 1.7), [slow[n].uniform(-0.3, 1.7) for n in some])
        want = [slow[n].choice(counts[n], 3, replace=False) for n in some]
        assert np.array_equal(lanes.choice(some, counts[some], 3), want)
        assert np.array_equal(lanes.permutation(some, 2), [slow[n].permutation(2) for n in some])
        assert np.array_equal(lanes.permutation(ALL, 5), [rng.permutation(5) for rng in slow])


@pytest.mark.parametrize("a", [0.5, 1.0, 0.2])
def test_beta_is_that_of_numpy(both, a):
    """To the last bits: NumPy takes C's power, which rounds otherwise than its own."""
    lanes, slow = both
    for _ in range(20):
        np.testing.assert_allclose(lanes.beta(ALL, a), [rng.beta(a, a) for rng in slow], rtol=1e-12)
    assert np.array_equal(lanes.random(ALL), [rng.random() for rng in slow])


def test_small_keys_are_those_of_a_run():
    keys = np.array([[0, 1, step, clip] for step in (0, 7) for clip in (0, 3, 100_000)], np.uint32)
    want = [np.random.default_rng(key).random() for key in keys.tolist()]
    assert np.array_equal(Streams(keys).random(np.arange(6)), want)


def test_no_lane_is_no_number():
    lanes = Streams(KEYS)
    none = ALL[:0]
    assert not len(lanes.random(none)) and not len(lanes.beta(none, 0.5)) and not len(lanes.choice(none, none, 3))
