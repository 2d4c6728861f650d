"""AWCL: anatomy-aware contrastive learning on frames (Fu et al., ECCV MCV workshop 2022, arXiv 2208.10642).

Frames of one anatomy, of whatever patient, attract one another; a frame of unknown anatomy only attracts its own second
view. In the masked loss of `training.losses` that is a choice of positives an anchor i:

    P(i) = views of the same anatomy, the own second view among them    where the anatomy is known
    P(i) = the own second view                                          where it is not

With no anatomy known at all this is SimCLR.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.augment import Augment
from training.data.sampling import Batch, Pairs
from training.heads import projector
from training.losses import contrastive, other_view, same_class
from training.methods.base import Method, Paper
from training.methods.clip_pair import ClipPair
from training.methods.meta_uscl import MetaUSCL
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL

PAIRS: dict[str, Pairs] = {"frame": SimCLR(), "clip": ClipPair(), "mixed": USCL(), "interpolated": MetaUSCL()}


@dataclass(frozen=True)
class AWCL:
    """Two views of a frame; views of the same anatomy are positives of one another.

    Attributes:
        temperature: of the contrastive loss.
        projection: width of the embedding.
        pair: the two views of a clip: of one "frame", as in the paper; of two frames of the "clip"; or the mixtures of
            USCL ("mixed") or of Meta-USCL ("interpolated").
        granularity: which frames are of the same anatomy: those of one organ ("coarse") or of one anatomy within an
            organ ("fine"), as the manifest's columns organ and anatomy tell. The paper found fine the better.
        anatomy_ratio: share of the clips whose anatomy may be used, 0..1; the others count as unknown.
        anatomy_seed: of the choice of those clips, which is the same for every run and at every step.
        switch: "anchor" decides for every anchor whether its anatomy is known, as the paper's figure shows. "batch",
            the released code, asks the first clip of the batch: if its anatomy is unknown no anatomy of the batch is
            used, and if it is known all unknown ones count as one anatomy, hence as false positives.
        base_temperature: the loss is multiplied by temperature / base_temperature. The released code does so with 0.07,
            a leftover of its source; None is a factor of 1.
        forward_views: see `Method`.
    """

    name: ClassVar = "awcl"
    paper: ClassVar = Paper("AWCL (Fu et al., ECCV MCV workshop 2022)", "https://arxiv.org/abs/2208.10642")

    temperature: float = 0.5
    projection: int = 128
    pair: Literal["frame", "clip", "mixed", "interpolated"] = "frame"
    granularity: Literal["coarse", "fine"] = "fine"
    anatomy_ratio: float = 1.0
    anatomy_seed: int = 0
    switch: Literal["anchor", "batch"] = "anchor"
    base_temperature: float | None = None
    forward_views: Literal["separate", "concat"] = "separate"

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]."""
        return PAIRS[self.pair].views(clip, augment, rng)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; the anatomy comes with the batch, so the corpus' classes are of no use."""
        return AWCLNet(backbone, self)

    def known_anatomy(self, batch: Batch) -> Tensor:
        """int64 [N], the anatomy of each clip of a batch, -1 where it is unknown or may not be used."""
        anatomy = batch.anatomy[("coarse", "fine").index(self.granularity)]
        draws = [np.random.default_rng([self.anatomy_seed, clip]).random() for clip in batch.clips.tolist()]
        kept = torch.tensor(draws, device=anatomy.device) < self.anatomy_ratio
        return anatomy.where(kept, -1)


def positives_of(anatomy: Tensor, switch: Literal["anchor", "batch"]) -> Tensor:
    """The mask of positives that `contrastive` takes, for two views of N clips, the first views first.

    Args:
        anatomy: int64 [N], -1 where unknown.
        switch: see `AWCL`.
    """
    if switch == "batch":
        anatomy = anatomy + 1 if anatomy[0] >= 0 else torch.full_like(anatomy, -1)
    return same_class(anatomy.repeat(2)) | other_view(len(anatomy), device=anatomy.device)


class AWCLNet(Method):
    """Backbone -> projector -> contrastive loss with positives by anatomy."""

    def __init__(self, backbone: nn.Module, spec: AWCL) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.projector = projector(self.width, self.width, spec.projection)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`; "known" is the share of clips whose anatomy is used."""
        anatomy = self.spec.known_anatomy(batch)
        embeddings = self.projector(self.represent(batch.views)).flatten(0, 1)
        loss = contrastive(embeddings, positives_of(anatomy, self.spec.switch), self.spec.temperature).mean()
        if self.spec.base_temperature is not None:
            loss = loss * (self.spec.temperature / self.spec.base_temperature)
        return {"loss": loss, "known": (anatomy >= 0).float().mean()}
