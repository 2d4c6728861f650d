"""Positive pair interpolation: which frames, in which order and shares, mixed before augmentation."""

import numpy as np
import pytest

from training.data.views.augment import Augment
from training.methods.pairs import InterpolatedPair

CLIP = np.random.default_rng(0).integers(0, 256, (10, 40, 40), dtype=np.uint8)
NEUTRAL = Augment(size=40, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)


def test_the_frames_come_in_the_order_of_time_at_two_distances():
    drawn = np.array([InterpolatedPair().draw_frames(10, np.random.default_rng(seed)) for seed in range(3000)])
    assert drawn.shape == (3000, 3) and drawn.min() == 0 and drawn.max() == 9
    near, far = drawn[:, 1] - drawn[:, 0], drawn[:, 2] - drawn[:, 0]
    assert (near >= 1).all() and (far > near).all()
    pairs, counts = np.unique(np.stack([near, far]), axis=1, return_counts=True)
    assert pairs.shape[1] == 9 * 8 / 2 and abs(counts / 3000 * 36 - 1).max() < 0.4  # all equally often
    assert abs(drawn[far == 2, 0].mean() - 3.5) < 1.5  # the first of 0 .. 7


def test_distances_are_limited():
    drawn = np.array([InterpolatedPair(max_dist=3).draw_frames(10, np.random.default_rng(seed)) for seed in range(300)])
    assert (drawn[:, 2] - drawn[:, 0]).max() == 3
    inner = InterpolatedPair(interpolate="inner", frames=5, max_dist=3).draw_frames(10, np.random.default_rng(0))
    assert len(inner) == 4 and (np.diff(inner) == 1).all()
    assert len(InterpolatedPair(max_dist=1).draw_frames(10, np.random.default_rng(0))) == 2


def test_a_pair_mixes_the_middle_frame_into_both_ends_before_augmentation():
    shares = []
    for seed in range(300):
        seen = []
        InterpolatedPair().views(
            CLIP, lambda frame, _, seen=seen: seen.append(frame) or frame, np.random.default_rng(seed)
        )
        early, middle, late = CLIP[InterpolatedPair().draw_frames(10, np.random.default_rng(seed))].astype(float)
        assert len(seen) == 2 and all(mixed.dtype == np.uint8 for mixed in seen)
        for mixed, end in zip(seen, (early, late), strict=True):
            share = np.linalg.lstsq((middle - end).reshape(-1, 1), (mixed + 0.5 - end).ravel(), rcond=None)[0][0]
            floored = (1 - share) * end + share * middle - mixed
            assert floored.min() > -0.2 and floored.max() < 1.2
            shares.append(share)
    assert abs(np.mean(shares) - 3 / 8) < 0.03 and abs(np.std(shares) - 0.161) < 0.02
    first, second = np.reshape(shares, (-1, 2)).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2  # independent


def test_inner_points_are_uniform_in_the_hull_of_the_frames():
    spec, shares = InterpolatedPair(interpolate="inner", frames=4), []
    for seed in range(300):
        pair = spec.views(CLIP, NEUTRAL, np.random.default_rng(seed))
        frames = CLIP[spec.draw_frames(10, np.random.default_rng(seed))].reshape(4, -1).astype(float)
        shares += [np.linalg.lstsq(frames.T, view.ravel() + 0.5, rcond=None)[0] for view in pair]
    shares = np.array(shares)
    assert shares.min() > -0.01 and abs(shares.sum(axis=1) - 1).max() < 0.01
    assert abs(shares.mean(axis=0) - 1 / 4).max() < 0.03
    assert abs(shares.std(axis=0) - np.sqrt(3 / 80)).max() < 0.02  # of the uniform distribution on the simplex
    assert abs(np.corrcoef(shares[::2, 0], shares[1::2, 0])[0, 1]) < 0.2


@pytest.mark.parametrize("interpolate", ["standard", "inner"])
def test_short_clips_are_not_mixed(interpolate):
    spec = InterpolatedPair(interpolate=interpolate)
    two = spec.views(CLIP[:2], NEUTRAL, np.random.default_rng(0))
    np.testing.assert_array_equal(two, CLIP[:2])
    one = spec.views(CLIP[:1], NEUTRAL, np.random.default_rng(0))
    np.testing.assert_array_equal(one, CLIP[[0, 0]])
    assert two.dtype == np.float32
