"""Near-duplicates: frames that are one picture, however it was scaled, compressed, mirrored or modestly cropped.

A fingerprint is the signs of the lowest spatial frequencies of a frame whose local contrast was made even. Signs of
frequencies hardly move under scaling, JPEG or another brightness. Even contrast matters for ultrasound: in a dark fan
with a bright top the plain signs follow from the fan, so that any two lungs look alike. Mirroring a frame turns
the sign of every odd horizontal frequency, so a mirrored copy is found by an exclusive or, without a second
fingerprint. Crops are found because a fingerprint holds the signs of 19 windows of the frame, of which the first is
all of it.

Frames of one clip are near-duplicates by nature. What is asked is which frames of different groups are.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

BITS = 255
"""Signs of a window, those of 16 x 16 frequencies without the mean; they fill four words, of which one bit is idle."""
AT_MOST = 48
"""Most signs of BITS that may differ. Set by eye on breast and lung frames; docs/busi-duplicates.md tells how."""
COARSE_AT_MOST = 14
"""Most signs that may differ among the 63 of the 8 x 8 lowest frequencies, which the search looks at first."""
EVIDENCE = 0.1
"""A frame whose even-contrast picture has a lower mean square than this is flat or black, and matches nothing."""

_FREQUENCIES, _COARSE = 16, 8
_GRID = 64  # cells on a side of the picture that is fingerprinted
_SPREAD, _FLOOR = 2.0, 3.0  # of the local contrast: cells it is taken over, gray levels below which it is noise
_SIDES = (0.97, 0.93)  # of the windows, nine of each: nearly all crops of up to a tenth then come close to one of them
_INTERVALS = (
    (0.0, 1.0),
    *((start * (1 - side), start * (1 - side) + side) for side in _SIDES for start in (0, 0.5, 1)),
)
_WINDOWS = ((0, 0), *((scale + y, scale + x) for scale in (1, 4) for y in range(3) for x in range(3)))
"""Vertical and horizontal interval of each window."""


class Pairs(NamedTuple):
    """Near-duplicates, closest first.

    Attributes:
        first: int [P], index of a frame.
        second: int [P], index of the other.
        distance: int [P], signs that differ, 0 to AT_MOST of BITS.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def _order() -> np.ndarray:
    """Where each bit comes from in the [16, 16] frequencies: the coarse ones fill the first word, the mean leads it."""
    y, x = np.divmod(np.arange(_FREQUENCIES**2), _FREQUENCIES)
    return np.argsort((y >= _COARSE) | (x >= _COARSE), kind="stable")


_ORDER = _order()
_MIRROR = np.packbits(_ORDER % 2 == 1).view(np.uint64)  # the signs that a mirrored frame has turned


@cache
def _averaging(pixels: int) -> np.ndarray:
    """Matrix [GRID, pixels] that averages, or below GRID repeats, pixels over equal cells of a side."""
    edges = np.linspace(0, _GRID, pixels + 1)
    return np.diff(np.clip(edges - np.arange(_GRID)[:, None], 0, 1)).astype(np.float32)


@cache
def _smoothing() -> np.ndarray:
    """Matrix [GRID, GRID] of a Gaussian; at the border its weights are scaled to add up to one."""
    steps = np.subtract.outer(np.arange(_GRID), np.arange(_GRID)) / _SPREAD
    weights = np.exp(-0.5 * steps**2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@cache
def _cosines() -> np.ndarray:
    """Matrix [7 * 16, GRID]: for each interval the integrals of its cosines cos(pi k t), t = 0..1, over the cells."""
    edges = np.arange(_GRID + 1) / _GRID
    order = np.arange(1, _FREQUENCIES)[:, None]
    rows = []
    for start, stop in _INTERVALS:
        inside = np.clip((edges - start) / (stop - start), 0, 1)
        rows += [inside[None], np.sin(np.pi * order * inside) / (np.pi * order)]
    return np.diff(np.concatenate(rows)).astype(np.float32)


def _even_contrast(frames: np.ndarray) -> np.ndarray:
    """Frames [N, H, W] as float32 [N, GRID, GRID], less their local mean and over their local deviation."""
    cells = _averaging(frames.shape[1]) @ frames.astype(np.float32) @ _averaging(frames.shape[2]).T
    smooth = _smoothing()
    cells -= smooth @ cells @ smooth.T
    return cells / np.sqrt(smooth @ cells**2 @ smooth.T + _FLOOR**2)


def fingerprint(frames: np.ndarray) -> np.ndarray:
    """The fingerprints of gray frames of one size, uint8 [N, H, W].

    Returns:
        uint64 [N, 19, 4]: 255 signs of each of 19 windows; all zero for a frame that is too flat to be told.

    Raises:
        ValueError: if the frames are of another kind.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:]:
        raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}: give gray frames, uint8 [N, H, W]")
    prints = np.zeros((len(frames), len(_WINDOWS), 4), np.uint64)
    vertical, horizontal = np.array(_WINDOWS).T
    for start in range(0, len(frames), 64):  # a few at a time: what stands between is a hundred times a fingerprint
        even = _even_contrast(frames[start : start + 64])
        shape = (len(even), len(_INTERVALS), _FREQUENCIES)
        waves = (_cosines() @ even).reshape(*shape, _GRID)
        across = _cosines().reshape(*shape[1:], _GRID).swapaxes(1, 2)
        signs = (waves[:, vertical] @ across[horizontal] > 0).reshape(len(even), len(_WINDOWS), -1)[..., _ORDER]
        signs[..., 0] = False  # the mean
        signs &= (np.square(even).mean((1, 2)) >= EVIDENCE)[:, None, None]
        prints[start : start + 64] = np.ascontiguousarray(np.packbits(signs, axis=-1)).view(np.uint64)
    return prints


def near_duplicates(
    prints: np.ndarray, groups: Sequence[Hashable], at_most: int = AT_MOST, progress: bool = False
) -> Pairs:
    """The pairs of frames of different groups that are near-duplicates, first < second.

    Args:
        prints: fingerprints uint64 [N, 19, 4].
        groups: of each frame, as its clip or patient; frames of one group are never paired.
        at_most: signs that may differ.
        progress: show a progress bar.
    """
    codes = np.unique(np.array([str(group) for group in groups]), return_inverse=True)[1]
    found = _one_way(prints, codes, prints, codes, at_most, progress)
    return _closest(np.minimum(found.first, found.second), np.maximum(found.first, found.second), found.distance)


def near_duplicates_between(first: np.ndarray, second: np.ndarray, at_most: int = AT_MOST) -> Pairs:
    """The near-duplicate pairs of two sets of frames, by their fingerprints uint64 [N, 19, 4] and [M, 19, 4]."""
    ones, twos = np.zeros(len(first), int), np.ones(len(second), int)
    there = _one_way(first, ones, second, twos, at_most, False)
    back = _one_way(second, twos, first, ones, at_most, False)
    both = [np.concatenate(arrays) for arrays in zip(there, (back.second, back.first, back.distance), strict=True)]
    return _closest(*both)


def joined_groups(groups: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What each group is called once every pair is taken for one: by the alphabetically first name among its own."""
    leader = {group: group for group in groups}

    def find(group: str) -> str:
        while leader[group] != group:
            leader[group] = group = leader[leader[group]]
        return group

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        leader[high] = low
    return {group: find(group) for group in leader}


def _one_way(
    whole: np.ndarray,
    whole_group: np.ndarray,
    cut: np.ndarray,
    cut_group: np.ndarray,
    at_most: int,
    progress: bool,
    rows: int = 128,
    columns: int = 4096,
) -> Pairs:
    """Whole frames that are near a window of another frame, or near its mirror image; a pair may come up twice.

    The coarse words of `rows` frames and `columns` windows are compared at a time, which stays in the processor's
    cache; the other three words only where the coarse one is near.
    """
    windows = cut.shape[1]
    at, other = np.flatnonzero(whole[:, 0].any(-1)), np.flatnonzero(cut[:, 0].any(-1))
    full, parts = whole[at, 0], cut[other].reshape(-1, 4)
    coarse = np.ascontiguousarray(parts[:, 0])
    found = [Pairs(*np.zeros((3, 0), int))]
    for top in _ticking(range(0, len(full) if len(coarse) else 0, rows), progress):
        block = []
        for turned in (full[top : top + rows], full[top : top + rows] ^ _MIRROR):
            for left in range(0, len(coarse), columns):
                apart = np.bitwise_count(turned[:, :1] ^ coarse[left : left + columns])
                y, x = np.divmod(np.flatnonzero(apart <= COARSE_AT_MOST), apart.shape[1])
                i, j = at[top + y], other[(left + x) // windows]
                keep = whole_group[i] != cut_group[j]
                y, x, i, j = y[keep], x[keep], i[keep], j[keep]
                distance = np.bitwise_count(turned[y] ^ parts[left + x]).sum(-1, dtype=int)
                near = distance <= at_most
                block.append(Pairs(i[near], j[near], distance[near]))
        found.append(_closest(*map(np.concatenate, zip(*block, strict=True))))
    return Pairs(*map(np.concatenate, zip(*found, strict=True)))


def _closest(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> Pairs:
    """Each pair once, with its least distance, closest first."""
    order = np.lexsort((distance, second, first))
    first, second, distance = first[order], second[order], distance[order]
    new = np.ones(len(first), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    first, second, distance = first[new], second[new], distance[new]
    order = np.lexsort((second, first, distance))
    return Pairs(first[order], second[order], distance[order])


def _ticking(blocks: range, progress: bool) -> Iterable[int]:
    if not progress:
        return blocks
    from tqdm import tqdm

    return tqdm(blocks, desc="looking for near-duplicates", unit="block")
