"""The contrastive loss, once for all methods, and the label term.

For views z_1 .. z_M and the positives P(i) of anchor i,

    l_i = -1/|P(i)| * sum_{p in P(i)} log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ),   s = cosine similarity

NT-Xent (Chen et al. 2020) is the case of one positive, the other view; SupCon (Khosla et al. 2020) that of all views
of one class; a weighted loss is a `weighted_mean` of the l_i. In the code the formula reads

    l_i = log sum_{k != i} exp(s_ik / tau)  -  <z_i, mean of z_p over P(i)> / tau

because the second term is linear in z_p: only the first needs all pairs, and it is the same for every choice of P.

With several processes (`nn.distributed`) the anchors are those of this process and the keys k those of all. The
mean of what these functions return, its gradient averaged over the processes as DistributedDataParallel does, is the
mean over all anchors. All is computed in at least float32, under autocast too.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.nn.distributed import gather, rank, world_size

# Anchors times keys above which similarities are streamed. Up to here a matrix of them has 4 MB at most in float32, and
# the dense form, at most 1.4 times slower, keeps its second derivatives; above, it is slower by more and fills the
# memory with four such matrices.
STREAM_ABOVE = 1024 * 1024
# Anchors a strip of the streamed form: large enough for a fast matrix product, small enough to stay in the cache.
STRIP = 128
# exp(s / tau), its sums and their inverses stay well inside the range of the type while 1 / tau is below this; sharper
# ones are streamed in float64.
SHARPEST = {torch.float32: 50.0, torch.float64: 600.0}


def contrastive(z: Tensor, positives: Tensor, temperature: float, streamed: bool | None = None) -> Tensor:
    """Per-anchor losses [M] for any choice of positives, in at least float32.

    Args:
        z: embeddings [M, C], not necessarily normalised.
        positives: bool [M, world_size() * M], row i marks P(i) among the views of all processes, in the order of the
            ranks (see `same_class`, `other_view`); an anchor is never its own positive, whatever is marked. An anchor
            without positives has loss 0. The mask stays dense when similarities are streamed: 5 bytes a pair of views.
        temperature: tau > 0.
        streamed: whether to compute similarities a strip at a time and again in the backward pass, in memory that grows
            with M and not its square. None decides by size (`STREAM_ABOVE`). A streamed loss has neither second
            derivatives nor forward mode.
    """
    expected = (len(z), world_size() * len(z))
    if tuple(positives.shape) != expected:
        raise ValueError(
            f"positives have shape {list(positives.shape)}; {len(z)} views on each of {world_size()} processes need "
            f"{list(expected)}, as same_class and other_view make them"
        )
    with torch.autocast(z.device.type, enabled=False):
        z = _unit(z)
        positives = positives & ~_itself(z)
        count = positives.sum(dim=1)
        mean = (positives.to(z.dtype) @ gather(z)) / count.clamp(min=1)[:, None]
        loss = _log_denominator(z, temperature, streamed) - (z * mean).sum(dim=1) / temperature
        return torch.where(count > 0, loss, 0.0)


def nt_xent(first: Tensor, second: Tensor, temperature: float, streamed: bool | None = None) -> Tensor:
    """NT-Xent of two views of the same clips: first, second [N, C] -> per-anchor losses [2N], without any mask.

    See `contrastive` for the temperature and for `streamed`.
    """
    with torch.autocast(first.device.type, enabled=False):
        z = _unit(torch.cat([first, second]))
        similarity = (z[: len(first)] * z[len(first) :]).sum(dim=1)
        return _log_denominator(z, temperature, streamed) - similarity.repeat(2) / temperature


def same_class(labels: Tensor) -> Tensor:
    """Positives by class: int64 [M] -> bool [M, world_size() * M]; a label below 0 is unknown and matches nothing."""
    return (labels[:, None] == gather(labels)) & (labels[:, None] >= 0)


def other_view(clips: int, views: int = 2, device: torch.device | None = None) -> Tensor:
    """Positives of views stacked as [views * clips, C]: an anchor's are the other views of its clip."""
    return same_class((torch.arange(clips, device=device) + rank() * clips).repeat(views))


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Sum of w_i l_i over sum of w_i, both over all processes; 0 where all weights are 0.

    Args:
        losses: [V * N], of V views of N clips.
        weights: >= 0, [N] for the pairs or [V * N] for the anchors; gradients flow through them.
    """
    weights = weights.repeat(len(losses) // len(weights))
    total = gather(weights.sum()[None]).sum()
    return world_size() * (weights * losses).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def labeled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled rows of all processes; exactly 0, with no gradient, when there are none.

    Args:
        logits: [N, classes].
        labels: int64 [N], -1 where unlabelled.
    """
    count = int(gather((labels >= 0).sum()[None]).sum())
    if not count:
        return logits.new_zeros(())
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") * world_size() / count


def _unit(z: Tensor) -> Tensor:
    return F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)


def _itself(z: Tensor) -> Tensor:
    """Bool [M, world_size() * M]: where an anchor meets itself among the views of all processes."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    before = rank() * len(z)
    return F.pad(itself, (before, (world_size() - 1) * len(z) - before)) if world_size() > 1 else itself


def _log_denominator(z: Tensor, temperature: float, streamed: bool | None) -> Tensor:
    """Log sum_{k != i} exp(<z_i, z_k> / tau) for unit vectors z [M, C] and the keys of all processes -> [M]."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be positive (0.05 to 0.5 is usual)")
    if streamed is None:
        streamed = world_size() * len(z) ** 2 > STREAM_ABOVE
    if streamed:
        return _StreamedLogDenominator.apply(z, temperature)
    similarity = (z / temperature) @ gather(z).T
    return similarity.masked_fill(_itself(z), float("-inf")).logsumexp(dim=1)


def _own_first(x: Tensor) -> Tensor:
    """Rows of all processes, turned round so that those of this process come first."""
    return x.roll(-rank() * (len(x) // world_size()), dims=0) if world_size() > 1 else x


def _strips(keys: Tensor, anchors: int) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """The exponentials E_ik = exp(<keys_i, keys_k>), 0 for k = i, a strip of anchors at a time.

    The first `anchors` keys are the anchors. E is symmetric among them, so a strip begins at its own diagonal, and what
    lies right of it among the anchors stands for its mirror image too: half of the products and exponentials are saved.

    Yields:
        the slice `rows` of the strip's anchors, the slice `later` of the anchors that come after them,
        E[rows, rows.start:], and of it the part E[rows, later], which is E[later, rows] transposed.
    """
    for start in range(0, anchors, STRIP):
        stop = min(start + STRIP, anchors)
        strip = (keys[start:stop] @ keys[start:].T).exp_()
        strip.fill_diagonal_(0)
        yield slice(start, stop), slice(stop, anchors), strip, strip[:, stop - start : anchors - start]


class _StreamedLogDenominator(torch.autograd.Function):
    """`_log_denominator` in memory linear in M: keeps the sums of the rows, and makes every strip again in backward.

        d/dz_i sum_j g_j log D_j = 1/tau * sum_{k != i} E_ik (g_i / D_i + g_k / D_k) z_k,   D_i = sum_{k != i} E_ik

    Row i holds all that the gradient of z_i needs, so processes exchange g / D here and no gradients of embeddings.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        if 1 / temperature > SHARPEST[torch.float64]:
            raise ValueError(
                f"temperature is {temperature}; the streamed loss needs {1 / SHARPEST[torch.float64]:.2g} or more, "
                "streamed=False takes any"
            )
        precise = z.dtype if 1 / temperature <= SHARPEST[z.dtype] else torch.float64
        keys = _own_first(gather(z)).to(precise) / temperature**0.5
        sums = keys.new_zeros(len(z))
        for rows, later, strip, mirrored in _strips(keys, len(z)):
            sums[rows] += strip.sum(dim=1)
            sums[later] += mirrored.sum(dim=0)
        ctx.save_for_backward(keys, sums)
        ctx.temperature = temperature
        return sums.log().to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("the streamed contrastive loss has no second derivative; call it with streamed=False")
        keys, sums = ctx.saved_tensors
        with torch.autocast(keys.device.type, enabled=False):
            share = _own_first(gather(grad / sums))
            total = torch.zeros_like(keys[: len(sums)])
            for rows, later, strip, mirrored in _strips(keys, len(sums)):
                strip.mul_(share[rows, None] + share[rows.start :])
                total[rows].addmm_(strip, keys[rows.start :])
                total[later].addmm_(mirrored.T, keys[rows])
            return (total / ctx.temperature**0.5).to(grad.dtype), None
