"""One picture is recognised whatever was done to it, and two pictures are told apart."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phantoms import phantom_clip
from usbackbones.data.near_duplicates import (
    AT_MOST,
    COARSE_AT_MOST,
    fingerprint,
    joined_groups,
    near_duplicates,
    near_duplicates_between,
)

PATIENTS = 12


@pytest.fixture(scope="module")
def frames():
    """One frame of each of twelve patients, uint8 [12, 150, 150]."""
    return np.stack([phantom_clip(patient, frames=1, size=150)[0] for patient in range(PATIENTS)])


def slow_coefficient(even, interval_y, interval_x, ky, kx, samples=32768):
    """The integral of an even-contrast picture [64, 64], held constant on each cell, times two cosines of a window."""

    def wave(interval, k):
        start, stop = interval
        t = (np.arange(samples) + 0.5) / samples
        weights = np.zeros(64)
        np.add.at(weights, np.floor(64 * (start + t * (stop - start))).astype(int), np.cos(np.pi * k * t) / samples)
        return weights

    return wave(interval_y, ky) @ even @ wave(interval_x, kx)


def slow_even_contrast(frame):
    """Means of equal cells, less the mean around each and over the deviation around each, cell by cell."""
    size = frame.shape[0]
    assert size % 64 == 0
    cells = frame.astype(float).reshape(64, size // 64, 64, size // 64).mean((1, 3))
    at = np.arange(64)

    def around(picture):
        out = np.zeros((64, 64))
        for y in at:
            for x in at:
                weights = np.exp(-((at[:, None] - y) ** 2 + (at - x) ** 2) / (2 * 2.0**2))
                out[y, x] = (weights * picture).sum() / weights.sum()
        return out

    less = cells - around(cells)
    return less / np.sqrt(around(less**2) + 3.0**2)


def test_a_fingerprint_is_the_signs_of_the_slow_integrals():
    frame = phantom_clip(3, frames=1, size=128)[0]
    even = slow_even_contrast(frame)
    bits = np.unpackbits(fingerprint(frame[None])[0].view(np.uint8), axis=-1).astype(bool)
    low = [(y, x) for y in range(16) for x in range(16) if y < 8 and x < 8]
    order = low + [(y, x) for y in range(16) for x in range(16) if y >= 8 or x >= 8]
    for window, interval in ((0, ((0, 1), (0, 1))), (1, ((0, 0.97), (0, 0.97))), (15, ((0.035, 0.965), (0.07, 1.0)))):
        checked = 0
        for place, (ky, kx) in enumerate(order[1:], start=1):
            value = slow_coefficient(even, *interval, ky, kx)
            if abs(value) > 1e-4:  # nearer to nothing the sampling of the slow form decides
                checked += 1
                assert bits[window, place] == (value > 0), (window, ky, kx)
        assert checked > 200
    assert not bits[:, 0].any()


def apart(first, second):
    """The least signs that differ between the whole of one and a window of the other, mirrored or not, bit by bit."""
    odd = np.array([x % 2 for y in range(16) for x in range(16) if y < 8 and x < 8])
    odd = np.r_[odd, [x % 2 for y in range(16) for x in range(16) if y >= 8 or x >= 8]].astype(bool)
    bits = [np.unpackbits(one.view(np.uint8), axis=-1).astype(bool) for one in (first, second)]
    least = math.inf
    for whole, cut in (bits, bits[::-1]):
        for turned in (whole[0], whole[0] ^ odd):
            for window in cut:
                differ = turned != window
                if differ[:64].sum() <= COARSE_AT_MOST:
                    least = min(least, differ.sum())
    return least


def test_the_search_finds_what_comparing_all_with_all_finds():
    rng = np.random.default_rng(0)
    bits = rng.random((30, 19, 256)) < 0.5
    bits[20:] = bits[:10] ^ (rng.random((10, 19, 256)) < np.linspace(0, 0.25, 10)[:, None, None])
    prints = np.packbits(bits, axis=-1).view(np.uint64)
    prints[3] = 0
    groups = [number % 7 for number in range(30)]
    for at_most in (0, 3, AT_MOST):
        expected = {
            (i, j): apart(prints[i], prints[j])
            for i in range(30)
            for j in range(i + 1, 30)
            if groups[i] != groups[j] and prints[i].any() and prints[j].any()
        }
        expected = {pair: distance for pair, distance in expected.items() if distance <= at_most}
        pairs = near_duplicates(prints, groups, at_most)
        assert dict(zip(zip(pairs.first, pairs.second, strict=True), pairs.distance, strict=True)) == expected
        assert (np.diff(pairs.distance) >= 0).all()
        between = near_duplicates_between(prints[:15], prints[15:], at_most)
        expected = {
            (i, j): distance
            for i in range(15)
            for j in range(15)
            if prints[i].any() and (distance := apart(prints[i], prints[15 + j])) <= at_most
        }
        assert dict(zip(zip(between.first, between.second, strict=True), between.distance, strict=True)) == expected
        assert at_most == 0 or expected


def jpeg(frame, quality):
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def written(frame):
    return cv2.putText(frame.copy(), "LT BREAST 10:00", (5, 140), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255)


CHANGES = {
    "none": lambda frame: frame,
    "half": lambda frame: cv2.resize(frame, (75, 75), interpolation=cv2.INTER_AREA),
    "squashed": lambda frame: cv2.resize(frame, (224, 160), interpolation=cv2.INTER_AREA),
    "jpeg": lambda frame: jpeg(frame, 30),
    "bright": lambda frame: (255 * (frame / 255) ** 0.6).astype(np.uint8),
    "mirrored": lambda frame: frame[:, ::-1],
    "cropped": lambda frame: frame[4:144, 6:147],
    "mirrored, cropped, compressed": lambda frame: jpeg(np.ascontiguousarray(frame[:140, 9:][:, ::-1]), 60),
    "written on": written,
}


def found(first, second):
    """The pairs of one set and another, which must be the same both ways."""
    pairs = near_duplicates_between(first, second)
    back = near_duplicates_between(second, first)
    both = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert both == set(zip(back.second.tolist(), back.first.tolist(), strict=True))
    return both


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_no_other_picture_is(frames, change):
    copies = np.concatenate([fingerprint(np.ascontiguousarray(CHANGES[change](frame))[None]) for frame in frames])
    pairs = found(fingerprint(frames), copies)
    assert pairs <= {(i, i) for i in range(PATIENTS)}
    assert len(pairs) >= PATIENTS - (change == "written on")  # text over a fifth of a picture may be too much for one


@pytest.mark.parametrize(("most", "share"), [(0.05, 1.0), (0.1, 0.9)])
def test_crops_are_found_and_no_other_picture_is(frames, most, share):
    rng = np.random.default_rng(0)
    copies = []
    for number in range(5 * PATIENTS):
        height, width = (150 * (1 - rng.uniform(0, most, 2))).astype(int)
        top, left = rng.integers(0, 151 - height), rng.integers(0, 151 - width)
        copies.append(frames[number % PATIENTS, top : top + height, left : left + width][:, :: rng.choice((1, -1))])
    pairs = found(fingerprint(frames), np.concatenate([fingerprint(copy[None]) for copy in copies]))
    assert all(copy % PATIENTS == original for original, copy in pairs)
    assert len(pairs) >= share * len(copies)


def test_frames_of_one_group_are_not_paired():
    clip = fingerprint(phantom_clip(0, frames=4, size=96))
    assert len(near_duplicates(clip, "aaaa").first) == 0
    pairs = near_duplicates(clip, "abab")
    assert len(pairs.first) and all((i + j) % 2 for i, j in zip(pairs.first, pairs.second, strict=True))


def test_flat_and_black_frames_match_nothing():
    rng = np.random.default_rng(0)
    flat = np.stack([np.zeros((90, 90)), np.full((90, 90), 200), np.tile(np.linspace(0, 255, 90), (90, 1))])
    faint = rng.integers(10, 13, (2, 90, 90))
    prints = fingerprint(np.concatenate([flat, faint]).astype(np.uint8))
    assert not prints.any()
    assert len(near_duplicates(prints, range(5), at_most=255).first) == 0
    assert len(near_duplicates_between(prints, prints).first) == 0
    told = fingerprint(phantom_clip(0, frames=1, size=90))
    assert len(near_duplicates_between(told, prints).first) == len(near_duplicates_between(prints, told).first) == 0


def test_frames_smaller_than_the_grid_and_no_frames_at_all():
    frame = phantom_clip(0, frames=1, size=48)[0]
    large = cv2.resize(frame, (480, 480), interpolation=cv2.INTER_NEAREST)
    assert near_duplicates_between(fingerprint(frame[None]), fingerprint(large[None])).distance[0] <= 2
    assert fingerprint(np.zeros((0, 30, 30), np.uint8)).shape == (0, 19, 4)
    nothing = near_duplicates(np.zeros((0, 19, 4), np.uint64), [])
    assert len(nothing.first) == len(nothing.second) == len(nothing.distance) == 0


@pytest.mark.parametrize("frames", [np.zeros((3, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((1, 0, 8), np.uint8)])
def test_what_is_no_gray_frames_is_refused(frames):
    with pytest.raises(ValueError, match=r"give gray frames, uint8 \[N, H, W\]"):
        fingerprint(frames)


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_joined_groups_are_those_that_pairs_lead_to(count, links):
    names = [f"g{number:02d}" for number in range(count)]
    pairs = [(names[a % count], names[b % count]) for a, b in links]
    reached = {name: {name} for name in names}
    for _ in names:  # spread the names until nothing changes
        for a, b in pairs:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    assert joined_groups(names, pairs) == {name: min(reached[name]) for name in names}
