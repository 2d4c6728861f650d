"""Meta-USCL's pairs, its step against the slow algorithm, its meta split, and what a checkpoint keeps of it."""

import copy
import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.func import functional_call

from training.data.augment import Augment
from training.data.corpus import CorpusError
from training.data.prepare import open_cache
from training.data.sampling import Batch, batches
from training.engine import Engine, TrainingError
from training.lookahead import LookaheadError
from training.methods.meta_uscl import MetaUSCL
from training.pretrain import build, describe_corpus, divide, step_batches
from training.recipes import RECIPES

CLIP = np.random.default_rng(0).integers(0, 256, (10, 40, 40), dtype=np.uint8)
NEUTRAL = Augment(size=40, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)
RELEASED = MetaUSCL(meta_frame="first", features="attached", symmetric=False)


def net_of(spec=RELEASED, arch="test_resnet", **args):
    torch.manual_seed(0)
    if arch.startswith("vit"):
        args = {"img_size": 32, "patch_size": 8, "depth": 2, "global_pool": "avg"} | args
    net = spec.build(timm.create_model(arch, num_classes=0, in_chans=1, **args), classes=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm starts residual branches at zero, which hides them from one step
    return net.train()


def batch_of(count=4, meta=4, size=32, dtype=torch.float32):
    torch.manual_seed(1)
    views, held = torch.randn(2, count, 1, size, size, dtype=dtype), torch.randn(2, meta, 1, size, size, dtype=dtype)
    return Batch(views, torch.full((count,), -1), torch.arange(count), meta=held)


def sgd(net, rate=0.1):
    return torch.optim.SGD(net.learner().parameters(), rate, momentum=0.9, weight_decay=1e-4)


# --- pairs


def test_the_frames_come_in_the_order_of_time_at_two_distances():
    drawn = np.array([MetaUSCL().draw_frames(10, np.random.default_rng(seed)) for seed in range(3000)])
    assert drawn.shape == (3000, 3) and drawn.min() == 0 and drawn.max() == 9
    near, far = drawn[:, 1] - drawn[:, 0], drawn[:, 2] - drawn[:, 0]
    assert (near >= 1).all() and (far > near).all()
    pairs, counts = np.unique(np.stack([near, far]), axis=1, return_counts=True)
    assert pairs.shape[1] == 9 * 8 / 2 and abs(counts / 3000 * 36 - 1).max() < 0.4  # all equally often
    assert abs(drawn[far == 2, 0].mean() - 3.5) < 1.5  # the first of 0 .. 7


def test_distances_are_limited():
    drawn = np.array([MetaUSCL(max_dist=3).draw_frames(10, np.random.default_rng(seed)) for seed in range(300)])
    assert (drawn[:, 2] - drawn[:, 0]).max() == 3
    inner = MetaUSCL(interpolate="inner", frames=5, max_dist=3).draw_frames(10, np.random.default_rng(0))
    assert len(inner) == 4 and (np.diff(inner) == 1).all()
    assert len(MetaUSCL(max_dist=1).draw_frames(10, np.random.default_rng(0))) == 2


def test_a_pair_mixes_the_middle_frame_into_both_ends_before_augmentation():
    shares = []
    for seed in range(300):
        seen = []
        MetaUSCL().views(CLIP, lambda frame, _, seen=seen: seen.append(frame) or frame, np.random.default_rng(seed))
        early, middle, late = CLIP[MetaUSCL().draw_frames(10, np.random.default_rng(seed))].astype(float)
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
    spec, shares = MetaUSCL(interpolate="inner", frames=4), []
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
    spec = MetaUSCL(interpolate=interpolate)
    two = spec.views(CLIP[:2], NEUTRAL, np.random.default_rng(0))
    np.testing.assert_array_equal(two, CLIP[:2])
    one = spec.views(CLIP[:1], NEUTRAL, np.random.default_rng(0))
    np.testing.assert_array_equal(one, CLIP[[0, 0]])
    assert two.dtype == np.float32


def test_meta_pairs_are_two_augmentations_of_one_frame():
    frames = set()
    for seed in range(100):
        first, second = MetaUSCL().meta_views(CLIP, NEUTRAL, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, second)
        frames |= {index for index in range(10) if (CLIP[index] == first).all()}
        np.testing.assert_array_equal(RELEASED.meta_views(CLIP, NEUTRAL, np.random.default_rng(seed))[0], CLIP[0])
    assert frames == set(range(10))
    views = MetaUSCL().meta_views(CLIP, Augment(size=32), np.random.default_rng(0))
    assert views.shape == (2, 32, 32) and not (views[0] == views[1]).all()


# --- the step


def slow_nt_xent(embeddings, temperature):
    """[2, N, E] -> [2N], an anchor at a time."""
    z = torch.cat([*embeddings])
    z = z / z.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(z)):
        similar = torch.stack([z[i] @ z[k] for k in range(len(z)) if k != i]) / temperature
        positive = z[i] @ z[(i + len(z) // 2) % len(z)] / temperature
        losses.append(-torch.log(positive.exp() / similar.exp().sum()))
    return torch.stack(losses)


def slow_algorithm(net, batches_of_steps, rate):
    """The released algorithm: a second-order graph, a forward pass of its own for the real step, plain formulas."""
    theta = dict(net.learner().named_parameters())
    phi = list(net.weigher.parameters())
    adam = torch.optim.Adam(phi, net.spec.meta_lr)
    buffers, losses = {}, []

    def contrast(views, parameters, model):
        representations, embeddings = functional_call(model, parameters, (views,))
        return representations, slow_nt_xent(embeddings, net.spec.temperature)

    def weighted(values, weights):
        weights = torch.cat([weights, weights])
        return sum(w * value for w, value in zip(weights, values, strict=True)) / weights.sum()

    def score(seen):
        first, hidden, last, end = net.weigher.layers
        return end(last(hidden(first(torch.cat([seen[0], seen[1]], dim=1)))))[:, 0]

    for batch in batches_of_steps:
        model = copy.deepcopy(net)  # whose running statistics are thrown away
        seen, values = contrast(batch.views, theta, model)
        gradients = torch.autograd.grad(weighted(values, score(seen)), list(theta.values()), create_graph=True)
        ahead = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            gradient = gradient + 1e-4 * p
            if name in buffers:
                gradient = 0.9 * buffers[name] + gradient
            ahead[name] = p - rate * gradient
        meta = contrast(batch.meta, ahead, model)[1].mean()
        for p, gradient in zip(phi, torch.autograd.grad(meta, phi), strict=True):
            p.grad = gradient
        adam.step()
        seen, values = contrast(batch.views, theta, net)
        loss = weighted(values, score(seen).detach())
        for (name, p), gradient in zip(theta.items(), torch.autograd.grad(loss, list(theta.values())), strict=True):
            buffers[name] = gradient + 1e-4 * p.detach() + 0.9 * buffers.get(name, 0)
            p.data -= rate * buffers[name]
        losses.append((float(loss), float(meta)))
    return losses


def test_three_steps_are_the_released_algorithm():
    spec = replace(RELEASED, meta_lr=1e-2)
    net, slow = net_of(spec).double(), net_of(spec).double()
    start = {name: value.clone() for name, value in net.state_dict().items() if name != "_extra_state"}
    steps = [batch_of(dtype=torch.float64) for _ in range(3)]
    for number, batch in enumerate(steps):
        batch.views += number
    expected = slow_algorithm(slow, steps, rate=0.1)
    optimiser = sgd(net)
    for batch, (loss, meta) in zip(steps, expected, strict=True):
        optimiser.zero_grad()
        logged = net.step(batch, nullcontext, optimiser)
        optimiser.step()
        np.testing.assert_allclose([float(logged["loss"]), float(logged["meta"])], [loss, meta], rtol=1e-9)
    for name, value in slow.state_dict().items():
        if name != "_extra_state":
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-8, atol=1e-10, msg=name)
    assert (start["weigher.layers.0.weight"] - net.weigher.layers[0].weight).abs().max() > 1e-2


def test_validation_is_unweighted():
    net, batch = net_of().double().eval(), batch_of(dtype=torch.float64)
    expected = slow_nt_xent(net(batch.views)[1], 0.5).mean()
    torch.testing.assert_close(net.losses(batch)["loss"], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_order_of_the_views_matters_only_if_it_is_to(symmetric):
    weigher = net_of(replace(RELEASED, symmetric=symmetric)).weigher
    representations = torch.randn(2, 5, weigher.layers[0].in_features // 2)
    weights = weigher(representations)
    assert weights.shape == (5,) and (weights > 0).all() and (weights < 1).all()
    assert torch.allclose(weights, weigher(representations.flip(0)), atol=1e-6) == symmetric


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("with_meta", [True, False])
def test_every_parameter_learns_and_the_backbone_runs_once_a_view(arch, with_meta):
    net, batch = net_of(MetaUSCL(), arch), batch_of(meta=4 if with_meta else 0)
    if not with_meta:
        batch.meta = torch.empty(0)
    optimiser, passes = sgd(net), []
    net.backbone.register_forward_hook(lambda module, args, output: passes.append((args[0], output.requires_grad)))
    net.step(batch, nullcontext, optimiser)
    on_training_views = [graph for seen, graph in passes if any(seen.equal(view) for view in batch.views)]
    assert on_training_views == [True, True] + [False, False] * with_meta  # the latter in forward mode
    assert len(passes) == 2 + 4 * with_meta
    learns = net if with_meta else net.learner()
    silent = [name for name, p in learns.named_parameters() if p.grad is None or not p.grad.abs().any()]
    assert not silent
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert not held & {id(p) for p in net.weigher.parameters()}


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_it_overfits_eight_clips(arch):
    rng = np.random.default_rng(0)
    clips = [np.clip(rng.normal(rng.integers(40, 200, (1, 6, 6)), 12, (6, 6, 6)), 0, 255) for _ in range(12)]
    clips = [c.astype(np.uint8).repeat(6, 1).repeat(6, 2) for c in clips]
    mild = Augment(size=32, flip=0, brightness=0.1, contrast=0.1)
    spec = MetaUSCL()
    net = net_of(spec, arch)
    optimiser = torch.optim.AdamW(net.learner().parameters(), 1e-3 if arch.startswith("resnet") else 3e-4)
    seen = []
    for step in range(100):
        draw = [np.random.default_rng([step, number]) for number in range(12)]
        views = np.stack([spec.views(clip, mild, r) for clip, r in zip(clips[:8], draw, strict=False)], 1)
        meta = np.stack([spec.meta_views(clip, mild, r) for clip, r in zip(clips[8:], draw[8:], strict=True)], 1)
        views, meta = ((torch.from_numpy(part).unsqueeze(2) / 255 - 0.5) / 0.25 for part in (views, meta))
        batch = Batch(views, torch.full((8,), -1), torch.arange(8), meta=meta if step % 8 == 0 else torch.empty(0))
        optimiser.zero_grad()
        seen.append(float(net.step(batch, nullcontext, optimiser)["contrast"]))
        optimiser.step()
    floor = float(np.log(np.exp(2) + 14 * np.exp(2 * -1 / 7)) - 2)  # eight pairs spread as far apart as they can be
    assert np.mean(seen[:3]) > 2.0 and np.mean(seen[-5:]) < floor + 0.35


def test_pairs_that_harm_the_meta_loss_lose_weight():
    """Half of the pairs join two clips that the meta pairs tell apart."""
    net = net_of(MetaUSCL(meta_lr=1e-2))
    optimiser = sgd(net, rate=0.02)
    torch.manual_seed(2)
    scenes = torch.randn(8, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    harmful = torch.tensor([False, True] * 4)
    partner = torch.arange(8)
    partner[harmful] = partner[harmful].roll(1)
    for _ in range(40):
        first, second, meta1, meta2 = (
            scenes[order] + 0.1 * torch.randn(8, 1, 32, 32)
            for order in (torch.arange(8), partner, torch.arange(8), torch.arange(8))
        )
        batch = Batch(
            torch.stack([first, second]), torch.full((8,), -1), torch.arange(8), meta=torch.stack([meta1, meta2])
        )
        optimiser.zero_grad()
        net.step(batch, nullcontext, optimiser)
        optimiser.step()
    with torch.no_grad():
        weights = net.weigher(net(batch.views)[0])
    assert weights[harmful].mean() < weights[~harmful].mean() - 0.1


@pytest.mark.parametrize("spec", [MetaUSCL(), RELEASED])
@pytest.mark.parametrize("case", ["one pair", "one pair and one meta pair", "constant"])
def test_it_survives(spec, case):
    net = net_of(spec, "test_resnet")
    batch = {
        "one pair": lambda: batch_of(count=1, size=64),
        "one pair and one meta pair": lambda: batch_of(count=1, meta=1, size=64),
        "constant": lambda: replace(batch_of(), views=torch.zeros(2, 4, 1, 32, 32), meta=torch.zeros(2, 4, 1, 32, 32)),
    }[case]()
    optimiser = sgd(net)
    for _ in range(2):
        optimiser.zero_grad()
        losses = net.step(batch, nullcontext, optimiser)
        optimiser.step()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(p).all() for p in net.parameters())


def test_without_a_meta_share_only_the_interpolation_is_left():
    net, batch = net_of(MetaUSCL(meta_share=0)), batch_of()
    losses = net.step(replace(batch, meta=torch.empty(0)), nullcontext, sgd(net))
    assert losses.keys() == {"loss"} and all(p.grad is None for p in net.weigher.parameters())


# --- the run


@pytest.fixture
def recipe():
    smoke = RECIPES["smoke"][1]
    return replace(
        smoke,
        method=MetaUSCL(meta_share=0.5, meta_lr=1e-2),
        arch="test_resnet",
        steps=6,
        batch=3,
        augment=replace(smoke.augment, size=32),
    )


def test_meta_clips_are_of_other_groups(recipe, cache):
    opened = open_cache(cache)
    train, held, meta = divide(replace(recipe, validation=0.25), opened)
    assert len(train) + len(held) + len(meta) == 8 and len(meta) >= 2
    groups = [{opened.clips[index].row.group for index in part} for part in (train, held, meta)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    again = divide(replace(recipe, validation=0.25, lr=0.5), opened)
    assert all((one == other).all() for one, other in zip((train, held, meta), again, strict=True))
    other = divide(replace(recipe, seed=3), opened)[2]
    assert set(other) != set(divide(recipe, opened)[2])
    data, validation = step_batches(replace(recipe, validation=0.25), opened)
    assert (data.meta == meta).all() and not len(validation[0].meta)
    assert describe_corpus(opened, data)["groups"] == sorted(groups[0] | groups[2])


def test_meta_batches_are_a_function_of_seed_and_step(recipe, cache):
    data, _ = step_batches(replace(recipe, method=replace(recipe.method, meta_every=2)), open_cache(cache))
    drawn = list(batches(data, 0, 0))
    assert [len(batch.meta) for batch in drawn] == [2, 0] * 3
    assert drawn[0].meta.shape == (2, 3, 1, 32, 32) and not drawn[0].meta.equal(drawn[2].meta)
    for batch, other in zip(drawn[2:], batches(data, 2, 1), strict=True):
        assert batch.meta.equal(other.meta) and batch.views.equal(other.views)
    seen = []
    data.pairs = type(
        "Spy",
        (MetaUSCL,),
        {
            "meta_views": lambda self, clip, augment, rng: (
                seen.append(clip) or MetaUSCL.meta_views(self, clip, augment, rng)
            )
        },
    )()
    for step in range(4):
        data[step]
    kept = [data.cache.clip(index) for index in data.meta]
    assert len(seen) == 12 and all(any(np.shares_memory(clip, other) for other in kept) for clip in seen)


def test_too_few_meta_clips_are_refused(recipe, cache):
    with pytest.raises(CorpusError, match=r"0 clips for the meta loss.*--method\.meta-share \(now 0\.1\)"):
        step_batches(replace(recipe, method=replace(recipe.method, meta_share=0.1)), open_cache(cache))


class Copying(Engine):
    """Keeps every checkpoint."""

    def save(self):
        super().save()
        shutil.copy(self.checkpoint, self.folder / f"{self.step}.pt")


def engine_of(recipe, cache, folder):
    folder.mkdir()
    opened = open_cache(cache)
    return Copying(build(recipe, 2), recipe, step_batches(recipe, opened)[0], folder)


def flattened(state):
    """Every leaf of a checkpoint by its path."""
    if isinstance(state, dict):
        return {f"{key}.{inner}": leaf for key, value in state.items() for inner, leaf in flattened(value).items()}
    if isinstance(state, list):
        return flattened(dict(enumerate(state)))
    return {"": state}


@pytest.mark.parametrize("optimiser", ["momentum", "adamw"])
def test_a_run_continues_to_the_bit_with_cmw_net(recipe, cache, tmp_path, optimiser):
    recipe = replace(recipe, optimiser=optimiser, method=replace(recipe.method, meta_every=2))
    unbroken = engine_of(recipe, cache, tmp_path / "unbroken")
    unbroken.run(checkpoint_every=3, progress=False)
    resumed = engine_of(recipe, cache, tmp_path / "resumed")
    shutil.copy(tmp_path / "unbroken" / "3.pt", resumed.checkpoint)
    resumed.resume()
    assert resumed.step == 3
    resumed.run(progress=False)
    ours, theirs = (flattened(torch.load(e.checkpoint, weights_only=True)) for e in (resumed, unbroken))
    assert any("_extra_state" in key and "exp_avg" in key for key in ours)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.equal(theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key], key


def test_what_would_falsify_the_look_ahead_is_refused(recipe, cache, tmp_path):
    with pytest.raises(TrainingError, match=r"MetaUSCLNet looks ahead .* set --clip-gradient 0"):
        engine_of(replace(recipe, clip_gradient=1.0), cache, tmp_path / "clipped")
    engine = engine_of(replace(recipe, optimiser="lars"), cache, tmp_path / "lars")
    with pytest.raises(LookaheadError, match="Lars"):
        engine.train_step(engine.data[0])


def test_a_nan_among_the_meta_clips_reaches_no_weight(recipe, cache, tmp_path):
    engine = engine_of(recipe, cache, tmp_path / "nan")
    before = {name: value.clone() for name, value in engine.method.named_parameters()}
    batch = engine.data[0]
    batch.meta[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="the meta is nan at step 0"):
        engine.train_step(batch)
    assert all(value.equal(before[name]) for name, value in engine.method.named_parameters())
