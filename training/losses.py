"""The contrastive loss, once for all methods.

For views z_1 .. z_M and the positives P(i) of anchor i,

    l_i = -1/|P(i)| * sum_{p in P(i)} log( exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau) ),   s = cosine similarity

NT-Xent (Chen et al. 2020) is the case of one positive, the other view; SupCon (Khosla et al. 2020) that of all views
of one class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(z: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Per-anchor losses [M], in at least float32.

    Args:
        z: embeddings [M, C], not necessarily normalised.
        positives: bool [M, M], row i marks P(i); the diagonal is ignored. An anchor without positives has loss 0.
        temperature: tau > 0.
    """
    z = F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_probability = logits - logits.logsumexp(dim=1, keepdim=True)
    positives = positives & ~itself
    total = torch.where(positives, log_probability, 0.0).sum(dim=1)
    return -total / positives.sum(dim=1).clamp(min=1)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """NT-Xent of two views of the same clips: first, second [N, C] -> per-anchor losses [2N]."""
    pairs = torch.eye(len(first), dtype=torch.bool, device=first.device)
    return contrastive(torch.cat([first, second]), pairs.tile(2, 2), temperature)


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled rows; exactly 0, with no gradient, when there are none.

    Args:
        logits: [N, classes].
        labels: int64 [N], -1 where unlabelled.
    """
    if not bool((labels >= 0).any()):
        return logits.new_zeros(())
    return F.cross_entropy(logits.float(), labels, ignore_index=-1)
