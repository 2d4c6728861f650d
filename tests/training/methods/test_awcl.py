"""AWCL's choice of positives and its loss: by hand, against the loops, and as the released code has it."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import adjust_brightness, adjust_gamma

from tests.training.small import slow_nt_xent, small_backbone, small_batch
from training.data.batches.batch import Known
from training.data.views.augment import Augment
from training.methods.awcl import AWCL, positives_of, tone_curve
from training.methods.simclr import SimCLR
from training.nn.contrastive_loss import contrastive, nt_xent


def slow_awcl(z, anatomy, temperature):
    """The formula of training.methods.awcl as loops; z float64 [2N, C], anatomy a list of N."""
    count, anatomy, losses = len(z), anatomy * 2, []
    z = [v / v.norm() for v in z]
    for i in range(count):
        own = (i + count // 2) % count
        positives = {own} | {k for k in range(count) if k != i and anatomy[k] == anatomy[i] != -1}
        total = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(count) if k != i)
        terms = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / total) for p in positives]
        losses.append(-sum(terms) / len(terms))
    return torch.tensor(losses, dtype=torch.float64)


def test_positives_of_each_anchor():
    expected = torch.tensor(
        [
            [1, 1, 0, 0],  # the first two clips show the same anatomy
            [1, 1, 0, 0],
            [0, 0, 1, 0],  # two of unknown anatomy, which never match one another
            [0, 0, 0, 1],
        ]
    ).bool()
    assert positives_of(torch.tensor([2, 2, -1, -1]), "anchor").equal(expected.tile(2, 2))


def test_the_released_switch_asks_the_first_clip():
    together = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]]).bool()
    assert positives_of(torch.tensor([3, -1, -1]), "batch").equal(together.tile(2, 2))
    assert positives_of(torch.tensor([-1, 3, 3]), "batch").equal(torch.eye(3).bool().tile(2, 2))


def test_two_classes_by_hand():
    # Four clips of two anatomies; views of one anatomy are alike, those of different ones at right angles. Each anchor
    # has 3 positives at similarity 1 and 4 negatives at 0.
    z = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1] * 2]
    expected = math.log(3 * math.exp(1 / 0.5) + 4) - 1 / 0.5
    losses = contrastive(z, positives_of(torch.tensor([0, 0, 1, 1]), "anchor"), 0.5)
    torch.testing.assert_close(losses, torch.full((8,), expected, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("anatomy", [[0, 0, 1, -1, -1], [2, 2, 2, 2, 2], [-1, 0, -1, 0, 1], [-1] * 5])
def test_the_loss_is_the_formula(anatomy):
    z = torch.randn(10, 6, dtype=torch.float64)
    fast = contrastive(z, positives_of(torch.tensor(anatomy), "anchor"), 0.3)
    torch.testing.assert_close(fast, slow_awcl(z, anatomy, 0.3), rtol=1e-10, atol=0)


def test_without_any_anatomy_it_is_simclr():
    first, second = torch.randn(2, 5, 6, dtype=torch.float64)
    for switch in ("anchor", "batch"):
        ours = contrastive(torch.cat([first, second]), positives_of(torch.full((5,), -1), switch), 0.5)
        torch.testing.assert_close(ours, nt_xent(first, second, 0.5), rtol=1e-12, atol=0)
    nets = [spec.build(small_backbone(), 0).double() for spec in (AWCL(projection=256), SimCLR())]
    nets[1].load_state_dict(nets[0].state_dict())
    batch = small_batch(labels=(-1, -1, -1, -1), dtype=torch.float64)
    torch.testing.assert_close(*[net.losses(batch)["loss"] for net in nets], rtol=1e-12, atol=0)


@pytest.mark.parametrize("labels", [(0, 1, -1, 1), (-1, 1, 0, 1)])
def test_the_network_as_formula_and_as_released(labels):
    net = AWCL().build(small_backbone(), 0).double()
    batch = small_batch(labels=labels, dtype=torch.float64)
    z = [net.projector(net.backbone(view)).detach() for view in batch.views]
    slow = slow_awcl(torch.cat(z), list(labels), 0.5).mean()
    losses = net.losses(batch)
    torch.testing.assert_close(losses["loss"], slow, rtol=1e-10, atol=0)
    assert losses["known"] == 0.75
    net.spec = AWCL(switch="batch", base_temperature=0.07)
    wrong = [label + 1 for label in labels]  # unknown ones as one anatomy, 0, as the first clip's is known
    slow = slow_awcl(torch.cat(z), wrong, 0.5).mean() if labels[0] >= 0 else slow_nt_xent(*z, 0.5).mean()
    torch.testing.assert_close(net.losses(batch)["loss"], 0.5 / 0.07 * slow, rtol=1e-10, atol=0)


def test_granularity_is_a_column_of_the_manifest():
    batch = small_batch()
    batch.anatomy = torch.tensor([[0, 0, 1, 1], [0, 1, 2, -1]])
    assert AWCL(granularity="coarse").known_anatomy(batch).tolist() == [0, 0, 1, 1]
    assert AWCL(granularity="fine").known_anatomy(batch).tolist() == [0, 1, 2, -1]


def test_the_anatomy_ratio_keeps_the_same_clips_always():
    clips = torch.arange(3000)
    batch = small_batch()
    batch.clips, batch.anatomy = clips, torch.zeros(2, 3000, dtype=torch.int64)
    kept = AWCL(anatomy_ratio=0.3).known_anatomy(batch) == 0
    assert abs(float(kept.float().mean()) - 0.3) < 0.03
    batch.clips = clips.flip(0)
    assert (AWCL(anatomy_ratio=0.3).known_anatomy(batch) == 0).equal(kept.flip(0))
    assert not (AWCL(anatomy_ratio=0.3, anatomy_seed=1).known_anatomy(batch) == 0).equal(kept.flip(0))
    more = AWCL(anatomy_ratio=0.5).known_anatomy(batch) == 0
    assert (more | ~kept.flip(0)).all()  # a larger share only adds clips
    assert (AWCL(anatomy_ratio=0.0).known_anatomy(batch) == -1).all()
    assert (AWCL(anatomy_ratio=1.0).known_anatomy(batch) == 0).all()


def test_the_tone_is_gamma_and_then_brightness():
    """Against torchvision's operators; between the two it rounds down to a gray level."""
    levels = np.arange(256, dtype=np.uint8)[None]
    for gamma, brightness in ((0.75, 1.25), (1.25, 0.75), (1.1, 1.2), (1.0, 1.0)):
        image = adjust_brightness(adjust_gamma(Image.fromarray(levels), gamma), brightness)
        assert np.abs(tone_curve(gamma, brightness)[levels].astype(int) - np.asarray(image).astype(int)).max() <= 2


def test_the_released_tone_is_shared_by_the_views_of_known_clips_alone():
    """A clip of one gray level shows which curve its views went through."""
    clip, still = np.full((5, 8, 8), 100, np.uint8), Augment(size=8, area=(1, 1), aspect=(1, 1), flip=0, jitter=0)
    known, unknown = Known(0, None, (0, 3)), Known(0, None, (0, -1))

    def levels(spec, known):
        draws = [spec.informed_views(clip, known, still, np.random.default_rng(seed)) for seed in range(300)]
        assert all(weight == 1 and (views == views[0, 0, 0]).all() for views, weight in draws)  # one for both views
        return np.array([views[0, 0, 0] for views, _ in draws])

    toned = levels(AWCL(tone_known=True), known)
    darkest, brightest = (float(tone_curve(gamma, factor)[100]) for gamma, factor in ((1.25, 0.75), (0.75, 1.25)))
    assert darkest <= toned.min() < darkest + 6 and brightest - 6 < toned.max() <= brightest
    coarse = AWCL(tone_known=True, granularity="coarse")
    assert len(set(levels(coarse, unknown))) > 50  # the organ is known
    for spec, told in (
        (AWCL(tone_known=True), unknown),
        (AWCL(tone_known=True, anatomy_ratio=0.0), known),
        (AWCL(), known),
    ):
        assert set(levels(spec, told)) == {100}


def test_the_loader_tells_the_anatomy_that_the_batch_has(cache):
    from training.data.batches.sampling import StepBatches
    from training.data.cache import open_cache

    told = []

    class Spy(AWCL):
        def informed_views(self, clip, known, augment, rng):
            told.append(known)
            return super().informed_views(clip, known, augment, rng)

    settings = {"batch": 8, "seed": 0, "mean": 0.5, "std": 0.25, "steps": 1}
    batch = StepBatches(open_cache(cache), np.arange(8), Spy(), Augment(size=16), **settings)[0]
    assert [known.clip for known in told] == batch.clips.tolist()
    assert [list(known.anatomy) for known in told] == batch.anatomy.T.tolist()
