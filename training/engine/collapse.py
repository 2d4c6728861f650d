"""Is the representation alive? Its rank and its spread, from sums that add up over batches and processes.

    RankMe (Garrido et al., ICML 2023) = exp(-sum_k p_k log p_k),   p_k = s_k / sum_j s_j
    spread                             = sqrt(D) * mean over the features of their standard deviation

s_k are the singular values of the unit-length representations about their mean. The paper leaves the mean in; behind a
ReLU it is much longer than what differs between images, and would hide it. RankMe goes from 1 (all images on one line)
to D; the spread from 0 (all the same) to 1 (evenly on the sphere).
"""

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.batches.batch import Batch
from training.data.batches.sampling import StepBatches
from training.nn.distributed import averaged, gather, world_size
from usbackbones._evenly import evenly

# An untrained ResNet has a spread of 0.007 to 0.3 on ultrasound, and bfloat16 alone makes one of 0.001. A ViT in its
# first steps goes down to a RankMe of 2.1 and recovers.
LEAST_SPREAD = 1e-3
LEAST_RANK = 1.5
FEWEST_IMAGES = 8  # fewer cannot tell a collapsed representation from a poor choice of images


FIXED_CLIPS = 128  # that are looked at where no groups are kept out for validation


class Representations:
    """Sums over representations [N, D] that are added a batch at a time, in float64."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.sum = torch.zeros(width, dtype=torch.float64, device=device)
        self.products = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, representations: Tensor) -> None:
        """Count the rows of [N, D] in."""
        rows = F.normalize(representations.double(), dim=1)
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.products.addmm_(rows.T, rows)

    def measures(self) -> dict[str, float]:
        """RankMe, spread and the number of images, of what all processes have added."""
        count, total, products = averaged([self.count, self.sum, self.products])
        mean = total / count
        covariance = products / count - mean.outer(mean)
        images = float(count) * world_size()
        return {"rankme": rankme(covariance), "spread": spread(covariance), "images": images}


def rankme(covariance: Tensor) -> float:
    """RankMe of representations with this covariance [D, D]; 1 where all are the same."""
    eigenvalues = torch.linalg.eigvalsh(covariance)
    noise = eigenvalues.abs().max() * len(covariance) * torch.finfo(covariance.dtype).eps
    singular = torch.where(eigenvalues > noise, eigenvalues, 0).sqrt()
    shares = singular / singular.sum().clamp(min=torch.finfo(covariance.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


def spread(covariance: Tensor) -> float:
    """Spread of representations with this covariance [D, D]."""
    return float(covariance.diagonal().clamp(min=0).sqrt().mean() * len(covariance) ** 0.5)


def collapsed(found: dict[str, float]) -> bool:
    """Whether the representation has collapsed, to a point or to a line."""
    if found["images"] < FEWEST_IMAGES:
        return False
    return found["spread"] < LEAST_SPREAD or found["rankme"] < LEAST_RANK


def fixed_views(data: StepBatches) -> StepBatches:
    """The same views of some of the clips that are trained on, at every step."""
    fixed = copy.copy(data)
    chosen = evenly(len(data.members), FIXED_CLIPS)
    fixed.members, fixed.meta = data.members[chosen], data.meta[:0]
    fixed.frozen, fixed.part, fixed.steps = True, (0, 1), -(-len(chosen) // data.batch)
    return fixed


def without_labels(batch: Batch) -> Batch:
    """The batch with all labels and anatomies unknown."""
    return replace(batch, labels=torch.full_like(batch.labels, -1), anatomy=torch.full_like(batch.anatomy, -1))


def named_clips(data: StepBatches, batch: Batch, device: torch.device, most: int = 32) -> str:
    """The clips of a step, of all processes, for a message; only those whose views are not finite, if any are."""
    clips = gather(batch.clips.to(device)).tolist()
    broken = gather((~batch.views.isfinite()).flatten(2).any(2).any(0).to(device)).tolist()
    chosen = [clip for clip, bad in zip(clips, broken, strict=True) if bad] or clips
    names = [data.cache.clips[clip].row.clip for clip in chosen[:most]]
    return ", ".join(names) + (f" and {len(chosen) - most} more" if len(chosen) > most else "")
