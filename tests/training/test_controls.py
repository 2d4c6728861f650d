"""The controls' pairs, and what HiCo, AWCL and the controls must all stand: short clips, odd batches, any backbone."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from training.data.augment import Augment
from training.data.corpus import Row
from training.data.prepare import CachedClip, open_cache
from training.data.sampling import Batch, StepBatches
from training.methods.awcl import AWCL
from training.methods.clip_pair import ClipPair
from training.methods.hico import HiCo
from training.methods.ivpp import IVPP
from training.methods.meta_uscl import MetaUSCL
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL

METHODS = [HiCo(), AWCL(), ClipPair(), IVPP()]
AWCLS = [AWCL(pair=pair) for pair in ("clip", "mixed", "interpolated")]
SMALL_ARGS = {
    "vit_tiny_patch16_224": {"patch_size": 16, "depth": 6, "global_pool": "avg"},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)},
}


def small_backbone(arch="resnet18", size=64):
    torch.manual_seed(0)
    args = SMALL_ARGS.get(arch, {}) | ({"img_size": size} if arch in SMALL_ARGS else {})
    return timm.create_model(arch, num_classes=0, in_chans=1, **args)


def small_batch(count=4, size=64, labels=(0, 1, -1, 1), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, count, 1, size, size, generator=generator, dtype=dtype)
    known = torch.tensor(labels[:count])
    return Batch(views, known, torch.arange(count), anatomy=torch.stack([known, known]))


def slow_nt_xent(first, second, temperature):
    """NT-Xent per anchor, float64 [2N], as the loops it stands for."""
    z = [v.detach() / v.detach().norm() for v in torch.cat([first, second]).double()]
    count, losses = len(first), []
    for i in range(2 * count):
        similar = [float(z[i] @ other) / temperature for other in z]
        total = sum(np.exp(similar[k]) for k in range(2 * count) if k != i)
        losses.append(-np.log(np.exp(similar[(i + count) % (2 * count)]) / total))
    return torch.tensor(losses, dtype=torch.float64)


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
        (AWCL(), SimCLR()),
        (AWCL(pair="clip"), ClipPair()),
        (AWCL(pair="mixed"), USCL()),
        (AWCL(pair="interpolated"), MetaUSCL()),
        (HiCo(lam="shared", beta=2.0), USCL(lam="shared", beta=2.0)),
        (HiCo(pair="interpolated"), MetaUSCL()),
    ],
    ids=str,
)
def test_pairs_are_borrowed_whole(method, same):
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
            views, weight = spec.timed_views(clip, 0.3, the_frame, rng)
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


def test_ivpp_without_time_or_weights():
    rng = np.random.default_rng(0)
    for _ in range(50):
        i, j = frame_numbers(9, lambda clip: IVPP().timed_views(clip, None, the_frame, rng)[0])
        assert i == j
    clip = np.zeros((9, 4, 4), np.uint8)
    assert IVPP().timed_views(clip, None, the_frame, rng)[1] == 1
    assert {IVPP(weighted=False).timed_views(clip, 0.1, the_frame, rng)[1] for _ in range(20)} == {1}


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


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("method", [*METHODS, HiCo(pair="interpolated"), *AWCLS], ids=str)
def test_short_clips_give_a_pair(method, frames):
    clip = np.random.default_rng(0).integers(0, 256, (frames, 40, 40), dtype=np.uint8)
    rng, augment = np.random.default_rng(0), Augment(size=32)
    if isinstance(method, IVPP):
        views, weight = method.timed_views(clip, 0.1, augment, rng)
        assert 0 < weight <= 1
    else:
        views = method.views(clip, augment, rng)
    assert views.shape == (2, 32, 32) and views.dtype == np.float32
    assert views.min() >= 0 and views.max() <= 255


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_parameter_learns_and_the_backbone_runs_once_a_view(arch, method):
    net = method.build(small_backbone(arch), classes=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm starts residual branches at zero, which hides them from one step
    first = next(module for module in net.backbone.modules() if isinstance(module, torch.nn.Conv2d))
    passes = []
    first.register_forward_hook(lambda *_: passes.append(1))
    net.losses(small_batch())["loss"].backward()
    assert len(passes) == 2
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().any()]


ODD_BATCHES = {
    "unlabelled": small_batch(labels=(-1, -1, -1, -1)),
    "one pair": small_batch(count=1),
    "all labels equal": small_batch(labels=(1, 1, 1, 1)),
    "one label": small_batch(labels=(-1, 1, -1, -1)),
    "constant image": replace(small_batch(), views=torch.zeros(2, 4, 1, 64, 64)),
}


@pytest.mark.parametrize("odd", ODD_BATCHES)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_odd_batches_have_a_finite_loss_and_gradient(method, odd):
    net = method.build(small_backbone(), classes=2)
    losses = net.losses(ODD_BATCHES[odd])
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    if odd == "one pair" and not isinstance(method, HiCo):
        assert losses["loss"].abs() < 1e-6  # no negatives, nothing to learn


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_it_overfits_eight_clips(arch, method):
    rng, augment = np.random.default_rng(0), Augment(size=32, flip=0, brightness=0.1, contrast=0.1)
    clips = rng.normal(rng.integers(40, 200, (8, 1, 6, 6)), 12, (8, 6, 6, 6)).clip(0, 255).astype(np.uint8)
    views = [
        method.timed_views(clip, 0.1, augment, rng)[0] if isinstance(method, IVPP) else method.views(clip, augment, rng)
        for clip in clips.repeat(6, 2).repeat(6, 3)
    ]
    tensor = (torch.from_numpy(np.stack(views, 1)).unsqueeze(2) / 255 - 0.5) / 0.25
    anatomy = torch.arange(8) // 2
    batch = Batch(tensor, torch.arange(8) % 2, torch.arange(8), anatomy=torch.stack([anatomy, anatomy]))
    method = replace(method, temperature=0.5)
    net = method.build(small_backbone(arch, size=32), classes=2)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    seen = []
    for _ in range(40):
        loss = net.losses(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(float(loss.detach()))
    # Eight pairs, or four classes of four views, spread as far apart as they can be, at similarity -1/7 or -1/3.
    floor = np.log(np.exp(2) + 14 * np.exp(-2 / 7)) - 2
    if isinstance(method, AWCL):
        floor = np.log(3 * np.exp(2) + 12 * np.exp(-2 / 3)) - 2
    if isinstance(method, HiCo):
        floor = 3.5 * floor + 0.2 * 2 * -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert seen[0] > 1.3 * floor and seen[-1] < 1.12 * floor
