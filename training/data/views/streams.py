"""Many of NumPy's random generators at once: lane n draws, bit for bit, what `np.random.default_rng(keys[n])` draws.

A batch has a generator for each of its clips, seeded by (seed, stream, step, clip). Drawing from them one after another
costs a third of a millisecond a clip, most of it in Python. Here they are the rows of arrays, and each number is drawn
for all rows at once, or for some (`lanes`): SeedSequence's hash, PCG64 (O'Neill 2014) and the algorithms of NumPy's
Generator in integers, so that no number depends on how many clips are drawn together.
"""

from typing import Any

import numpy as np

_MASK = np.uint64(0xFFFFFFFF)
_MULTIPLIER = 2549297995355413924 << 64 | 4865540595714422341  # of PCG64
_BLOCK = 48  # words that are made ahead: a pair takes about 35
_Wide = tuple[np.ndarray, np.ndarray]  # the upper and the lower 64 bits of integers modulo 2^128


class Streams:
    """One generator a lane.

    Args:
        keys: uint32 [N, 4], the four integers that seed each.
    """

    def __init__(self, keys: np.ndarray) -> None:
        words = _seeded(keys).view(np.uint64)  # [N, 4]
        state, increment = (words[:, 0], words[:, 1]), (words[:, 2], words[:, 3])
        one, zero = np.uint64(1), np.uint64(0)
        self._increment: _Wide = (increment[0] << one | increment[1] >> np.uint64(63), increment[1] << one | one)
        self._state = _plus(_times(_plus(state, self._increment), _split([_MULTIPLIER])), self._increment)
        self._words = np.empty((len(keys), 0), np.uint64)
        self._next = np.zeros(len(keys), np.int64)
        self._spare, self._has_spare = np.full(len(keys), zero), np.zeros(len(keys), bool)

    def random(self, lanes: np.ndarray) -> np.ndarray:
        """float64 [L], as `Generator.random()`."""
        return (self._word(lanes) >> np.uint64(11)) * 2.0**-53

    def uniform(self, lanes: np.ndarray, low: float, high: float) -> np.ndarray:
        """float64 [L], as `Generator.uniform(low, high)`."""
        return low + (high - low) * self.random(lanes)

    def integers(self, lanes: np.ndarray, bounds: np.ndarray | int) -> np.ndarray:
        """int64 [L], as `Generator.integers(bound)` for bounds from 1 to 2^32 - 1: Lemire's method (2019).

        A bound of 1 leaves nothing to choose and draws nothing.
        """
        bound = np.broadcast_to(np.asarray(bounds, np.uint64), lanes.shape)
        found = np.zeros(len(lanes), np.int64)
        pending = np.flatnonzero(bound > 1)
        while len(pending):
            product = self._half(lanes[pending]) * bound[pending]
            found[pending] = product >> np.uint64(32)
            least = (np.uint64(1 << 32) - bound[pending]) % bound[pending]
            pending = pending[(product & _MASK) < least]
        return found

    def choice(self, lanes: np.ndarray, counts: np.ndarray, size: int) -> np.ndarray:
        """int64 [L, size], as `Generator.choice(count, size, replace=False)` for counts below 10,000.

        Floyd's algorithm: the k-th draw is from the first count - size + k + 1; what was drawn before is replaced by
        the last of these. Then they are shuffled.
        """
        chosen = np.zeros((len(lanes), size), np.int64)
        for place in range(size):
            last = counts - size + place
            drawn = self.integers(lanes, last + 1)
            taken = (chosen[:, :place] == drawn[:, None]).any(1)
            chosen[:, place] = np.where(taken, last, drawn)
        rows = np.arange(len(lanes))
        for place in range(size - 1, 0, -1):
            _swap(chosen, rows, place, self.integers(lanes, place + 1))
        return chosen

    def permutation(self, lanes: np.ndarray, size: int) -> np.ndarray:
        """int64 [L, size], as `Generator.permutation(size)`, which shuffles with other bits than `choice`."""
        items, rows = np.tile(np.arange(size), (len(lanes), 1)), np.arange(len(lanes))
        for place in range(size - 1, 0, -1):
            _swap(items, rows, place, self._interval(lanes, place))
        return items

    def beta(self, lanes: np.ndarray, a: float) -> np.ndarray:
        """float64 [L], as `Generator.beta(a, a)` for 0 < a <= 1: Jöhnk's method (1964), of powers of two uniforms."""
        found = np.zeros(len(lanes))
        pending = np.arange(len(lanes))
        while len(pending):
            first, second = (np.power(self.random(lanes[pending]), 1 / a) for _ in range(2))
            fits = (first + second <= 1) & (first + second > 0)
            found[pending[fits]] = first[fits] / (first + second)[fits]
            pending = pending[~fits]
        return found

    def _interval(self, lanes: np.ndarray, last: int) -> np.ndarray:
        """int64 [L], 0 .. last: as many bits as it takes, drawn again where they make more."""
        mask, found, pending = np.uint64((1 << last.bit_length()) - 1), np.zeros(len(lanes), np.int64), lanes >= 0
        while pending.any():
            found[pending] = self._half(lanes[pending]) & mask
            pending = found > last
        return found

    def _word(self, lanes: np.ndarray) -> np.ndarray:
        """The next 64 bits of each lane."""
        place = self._next[lanes]
        if len(lanes) and place.max() >= self._words.shape[1]:
            self._more()
        self._next[lanes] = place + 1
        return self._words[lanes, place]

    def _half(self, lanes: np.ndarray) -> np.ndarray:
        """The next 32 bits of each lane, uint64: the lower half of a word, and at the next call its upper half."""
        spare = self._has_spare[lanes]
        fresh = lanes[~spare]
        bits = self._spare[lanes]
        word = self._word(fresh)
        bits[~spare] = word & _MASK
        self._spare[fresh] = word >> np.uint64(32)
        self._has_spare[lanes] = ~spare
        return bits

    def _more(self) -> None:
        """Make the next words of all lanes.

        The state after k steps is A^k s + (1 + A + ... + A^(k-1)) c mod 2^128, with the same factors for every lane.
        """
        power, total, powers, totals = 1, 0, [], []
        for _ in range(_BLOCK):
            total = (total * _MULTIPLIER + 1) % (1 << 128)
            power = power * _MULTIPLIER % (1 << 128)
            powers.append(power)
            totals.append(total)
        state, increment = ((upper[:, None], lower[:, None]) for upper, lower in (self._state, self._increment))
        upper, lower = _plus(_times(state, _split(powers)), _times(increment, _split(totals)))
        self._state = upper[:, -1], lower[:, -1]
        mixed, turn = upper ^ lower, upper >> np.uint64(58)
        words = mixed >> turn | mixed << (-turn & np.uint64(63))
        self._words = np.concatenate([self._words, words], 1)


def _seeded(keys: np.ndarray) -> np.ndarray:
    """uint32 [N, 8], as `np.random.SeedSequence(key).generate_state(8)` for keys of four words."""
    factor = 0x43B0D7E5

    def hashed(value: Any, multiplier: int) -> Any:
        nonlocal factor
        value = value ^ np.uint32(factor)
        factor = factor * multiplier & 0xFFFFFFFF
        value *= np.uint32(factor)
        return value ^ value >> np.uint32(16)

    pool = [hashed(word, 0x931E8875) for word in np.asarray(keys, np.uint32).T]
    for source in range(4):
        for target in set(range(4)) - {source}:
            mixed: np.ndarray = pool[target] * np.uint32(0xCA01F9DD) - hashed(pool[source], 0x931E8875) * np.uint32(
                0x4973F715
            )
            pool[target] = mixed ^ mixed >> np.uint32(16)
    factor = 0x8B51F9DD
    return np.stack([hashed(pool[word % 4], 0x58F38DED) for word in range(8)], 1)


def _swap(items: np.ndarray, rows: np.ndarray, place: int, other: np.ndarray) -> None:
    items[rows, place], items[rows, other] = items[rows, other], items[rows, place].copy()


def _split(numbers: list[int]) -> _Wide:
    upper, lower = zip(*(divmod(number, 1 << 64) for number in numbers), strict=True)
    return np.array(upper, np.uint64), np.array(lower, np.uint64)


def _plus(a: _Wide, b: _Wide) -> _Wide:
    lower = a[1] + b[1]
    return a[0] + b[0] + (lower < a[1]), lower


def _times(a: _Wide, b: _Wide) -> _Wide:
    """The product, its lower halves multiplied in pieces of 32 bits."""
    shift = np.uint64(32)
    (a1, a0), (b1, b0) = ((x[1] >> shift, x[1] & _MASK) for x in (a, b))
    low, left, right = a0 * b0, a1 * b0, a0 * b1
    middle = (low >> shift) + (left & _MASK) + (right & _MASK)
    upper = a1 * b1 + (left >> shift) + (right >> shift) + (middle >> shift)
    return upper + a[0] * b[1] + a[1] * b[0], a[1] * b[1]
