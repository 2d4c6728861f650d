"""Evenly spaced indices by exact fractions, rounded half to even as NumPy does."""

from fractions import Fraction

import pytest

from usbackbones._evenly import evenly


@pytest.mark.parametrize("count", [*range(1, 30), 100, 997])
@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 16, 120])
def test_indices_are_those_of_exact_fractions_and_none_comes_twice(count, most):
    kept, wanted = evenly(count, most).tolist(), min(count, most)
    assert kept == [round(Fraction(i * (count - 1), max(wanted - 1, 1))) for i in range(wanted)]
    assert sorted(set(kept)) == kept


def test_of_nothing_there_is_nothing():
    assert evenly(0, 5).tolist() == []
