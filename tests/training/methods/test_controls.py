"""The controls' pairs and losses, and what the loader tells them of a clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.small import slow_nt_xent, small_backbone, small_batch
from training.data.batches.batch import Batch, Known
from training.data.batches.sampling import StepBatches
from training.data.cache import CachedClip, open_cache
from training.data.manifest import Row
from training.data.views.augment import Augment
from training.methods.awcl import AWCL
from training.methods.clip_pair import ClipPair
from training.methods.hico import HiCo
from training.methods.ivpp import IVPP
from training.methods.meta_uscl import MetaUSCL
from training.methods.pairs import FramePair, InterpolatedPair, MixedPair
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL


def frame_numbers(clip_length, draw):
    """The numbers of the two frames that `draw` takes from a clip whose frame t has the gray level t."""
    clip = np.broadcast_to(np.arange(clip_length, dtype=np.uint8)[:, None, None], (clip_length, 4, 4))
    return tuple(int(view[0, 0]) for view in draw(clip))


def the_frame(frame, rng):
    """An augmentation that does nothing."""
    return frame


@pytest.mark.parametrize("length", [2, 3, 7])
def test_a_clip_pair_is_two_different_frames_in_any_order(length):
    rng = np.random.default_rng(0)
    seen = {frame_numbers(length, lambda clip: ClipPair().views(clip, the_frame, rng)) for _ in range(60 * length)}
    assert seen == {(i, j) for i in range(length) for j in range(length) if i != j}


@pytest.mark.parametrize(
    ("method", "same"),
    [
        (AWCL(), FramePair()),
        (SimCLR(), FramePair()),
        (USCL(lam="shared"), MixedPair(lam="shared")),
        (HiCo(lam="shared", beta=2.0), USCL(lam="shared", beta=2.0)),
        (MetaUSCL(interpolate="inner", frames=4), InterpolatedPair(interpolate="inner", frames=4)),
    ],
    ids=str,
)
def test_pairs_are_inherited_whole(method, same):
    clip = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    for seed in range(5):
        drawn = [spec.views(clip, Augment(size=8), np.random.default_rng(seed)) for spec in (method, same)]
        np.testing.assert_array_equal(*drawn)


def test_ivpp_pairs_stay_within_reach_and_weigh_by_closeness():
    rng, spec, length, reach = np.random.default_rng(0), IVPP(max_seconds=1.0), 12, 3
    weights, counts = {}, np.zeros((length, length))
    for _ in range(6000):
        drawn = []

        def draw(clip, drawn=drawn):
            views, weight = spec.informed_views(clip, Known(0, 0.3), the_frame, rng)
            drawn.append(weight)
            return views

        i, j = frame_numbers(length, draw)
        counts[i, j] += 1
        weights.setdefault(abs(i - j), set()).add(drawn[0])
    assert weights == {gap: {(reach - gap + 1) / (reach + 1)} for gap in range(reach + 1)}
    for i in range(length):  # the second frame is uniform over what is left of the window at the clip's ends
        window = slice(max(0, i - reach), min(length, i + reach + 1))
        assert counts[i].sum() == counts[i, window].sum() > 350
        expected = counts[i].sum() / len(counts[i, window])
        assert (abs(counts[i, window] - expected) < 5 * expected**0.5).all()


@pytest.mark.parametrize(
    ("seconds", "apart", "reach"), [(0.3, 0.1, 3), (1.0, 0.3, 3), (0.6, 0.2, 3), (1.5, 1 / 23, 34)]
)
def test_the_reach_is_whole_frames_whatever_the_rounding(seconds, apart, reach):
    clip, rng = np.zeros((99, 4, 4), np.uint8), np.random.default_rng(0)
    drawn = (IVPP(max_seconds=seconds).informed_views(clip, Known(0, apart), the_frame, rng)[1] for _ in range(3000))
    assert min(drawn) == 1 / (reach + 1)


def test_ivpp_without_time_or_weights():
    rng = np.random.default_rng(0)
    for _ in range(50):
        i, j = frame_numbers(9, lambda clip: IVPP().informed_views(clip, Known(), the_frame, rng)[0])
        assert i == j
    clip = np.zeros((9, 4, 4), np.uint8)
    assert IVPP().informed_views(clip, Known(), the_frame, rng)[1] == 1
    assert {IVPP(weighted=False).informed_views(clip, Known(0, 0.1), the_frame, rng)[1] for _ in range(20)} == {1}


def test_the_time_between_frames_reaches_ivpp_and_its_weights_the_batch(cache):
    cache = open_cache(cache)
    timed = replace(cache, clips=[replace(clip, seconds_per_frame=0.5) for clip in cache.clips])

    def batch_of(cache, method):
        settings = {"batch": 8, "seed": 0, "mean": 0.5, "std": 0.25, "steps": 4}
        return StepBatches(cache, np.arange(8), method, Augment(size=16), **settings)

    weights = torch.cat([batch_of(timed, IVPP(max_seconds=1.0))[step].weights for step in range(4)])
    assert {round(float(3 * weight)) / 3 for weight in weights} == {1 / 3, 2 / 3, 1}
    assert (batch_of(cache, IVPP())[0].weights == 1).all() and (batch_of(timed, SimCLR())[0].weights == 1).all()


def test_the_manifest_tells_coarse_and_fine_anatomy(cache):
    cache = open_cache(cache)
    shown = [("brain", "a"), ("brain", "b"), ("heart", "a"), ("heart", ""), ("", ""), ("brain", "a")]
    clips = [
        CachedClip(Row("p", f"c{n}", "g", organ, anatomy=anatomy), 0, 6, None)
        for n, (organ, anatomy) in enumerate(shown)
    ]
    settings = {"batch": 6, "seed": 0, "mean": 0.5, "std": 0.25, "steps": 1, "frozen": True}
    batch = StepBatches(replace(cache, clips=clips), np.arange(6), SimCLR(), Augment(size=16), **settings)[0]
    assert batch.anatomy.tolist() == [[0, 0, 1, 1, -1, 0], [0, 1, 2, -1, -1, 0]]
    assert batch.labels.tolist() == [-1] * 6


def test_a_batch_without_anatomy_and_weights_has_the_neutral_ones():
    batch = Batch(torch.zeros(2, 3, 1, 4, 4), torch.tensor([0, 1, -1]), torch.arange(3)).to(torch.device("cpu"))
    assert batch.anatomy.tolist() == [[-1] * 3] * 2 and batch.weights.tolist() == [1.0] * 3


def test_ivpp_weighs_the_terms_of_each_pair():
    net = IVPP(temperature=0.2).build(small_backbone(), 0).double()
    batch = small_batch(dtype=torch.float64)
    batch.weights = torch.tensor([1.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    z = [net.projector(net.backbone(view)) for view in batch.views]
    slow = sum(batch.weights[i % 4] * term for i, term in enumerate(slow_nt_xent(*z, 0.2))) / 8
    torch.testing.assert_close(net.losses(batch)["loss"], slow, rtol=1e-10, atol=0)


def test_clip_pairs_are_learned_as_simclr_does():
    nets = [spec.build(small_backbone(), 0).double() for spec in (ClipPair(), SimCLR())]
    nets[1].load_state_dict(nets[0].state_dict())
    losses = [net.losses(small_batch(dtype=torch.float64))["loss"] for net in nets]
    assert losses[0] == losses[1]
