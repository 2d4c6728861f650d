"""AWCL: anatomy-aware contrastive learning on frames (Fu et al., ECCV MCV workshop 2022, arXiv 2208.10642).

Frames of one anatomy, of whatever patient, attract one another; a frame of unknown anatomy only attracts its own second
view. In the masked loss of `training.nn.contrastive_loss` that is a choice of positives an anchor i:

    P(i) = views of the same anatomy, the own second view among them    where the anatomy is known
    P(i) = the own second view                                          where it is not

With no anatomy known at all this is SimCLR.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches.sampling import Batch, Known, Pairs
from training.data.views.augment import Augment
from training.methods.base import Method, Paper
from training.methods.clip_pair import ClipPair
from training.methods.pairs import Interpolation
from training.methods.simclr import SimCLR, SimCLRNet
from training.methods.uscl import USCL
from training.nn.contrastive_loss import other_view, same_class

PAIRS: dict[str, Pairs] = {"frame": SimCLR(), "clip": ClipPair(), "mixed": USCL(), "interpolated": Interpolation()}


@dataclass(frozen=True)
class AWCL(SimCLR):
    """Two views of a frame; views of the same anatomy are positives of one another.

    Frames that show no anatomy in particular (the released code's background class) are best left without one in the
    manifest, or they will all attract one another.

    Attributes:
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
        tone_known: change gamma and then brightness, an exponent and a factor of U(0.75, 1.25) each, of the clips whose
            anatomy is used, once for both views. The released code does so, which marks those clips and teaches no
            invariance. By default tone changes in every view of every clip alike, by the --augment options.
    """

    name: ClassVar = "awcl"
    paper: ClassVar = Paper("AWCL (Fu et al., ECCV MCV workshop 2022)", "https://arxiv.org/abs/2208.10642")

    projection: int = 128
    pair: Literal["frame", "clip", "mixed", "interpolated"] = "frame"
    granularity: Literal["coarse", "fine"] = "fine"
    anatomy_ratio: float = 1.0
    anatomy_seed: int = 0
    switch: Literal["anchor", "batch"] = "anchor"
    base_temperature: float | None = None
    tone_known: bool = False

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]."""
        return PAIRS[self.pair].views(clip, augment, rng)

    def informed_views(
        self, clip: np.ndarray, known: Known, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """As `views`, with the tone of a clip of known anatomy changed where the option says so; the weight is 1."""
        if self.tone_known and known.anatomy[self._column] >= 0 and self.may_use(known.clip):
            clip = tone_curve(*rng.uniform(0.75, 1.25, 2))[clip]
        return self.views(clip, augment, rng), 1.0

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; the anatomy comes with the batch, so the corpus' classes are of no use."""
        return AWCLNet(backbone, self)

    @property
    def _column(self) -> int:
        return ("coarse", "fine").index(self.granularity)

    def may_use(self, clip: int) -> bool:
        """Whether a clip is among the share whose anatomy may be used."""
        return bool(np.random.default_rng([self.anatomy_seed, clip]).random() < self.anatomy_ratio)

    def known_anatomy(self, batch: Batch) -> Tensor:
        """int64 [N], the anatomy of each clip of a batch, -1 where it is unknown or may not be used."""
        anatomy = batch.anatomy[self._column]
        kept = torch.tensor([self.may_use(clip) for clip in batch.clips.tolist()], device=anatomy.device)
        return anatomy.where(kept, -1)


def tone_curve(gamma: float, brightness: float) -> np.ndarray:
    """uint8 [256]: the gray level x becomes brightness * 255 * (x / 255) ** gamma."""
    return (brightness * 255 * (np.arange(256) / 255) ** gamma).clip(0, 255).round().astype(np.uint8)


def positives_of(anatomy: Tensor, switch: Literal["anchor", "batch"]) -> Tensor:
    """The mask of positives that `contrastive` takes, for two views of N clips, the first views first.

    Args:
        anatomy: int64 [N], -1 where unknown.
        switch: see `AWCL`.
    """
    if switch == "batch":
        anatomy = anatomy + 1 if anatomy[0] >= 0 else torch.full_like(anatomy, -1)
    return same_class(anatomy.repeat(2)) | other_view(len(anatomy), device=anatomy.device)


class AWCLNet(SimCLRNet):
    """Backbone -> projector -> contrastive loss with positives by anatomy."""

    spec: AWCL

    def positives(self, batch: Batch) -> Tensor:
        """See `Contrast.positives`."""
        return positives_of(self.spec.known_anatomy(batch), self.spec.switch)

    def contrast(self, embeddings: Tensor, positives: Tensor | None = None) -> Tensor:
        """See `Contrast.contrast`."""
        base = self.spec.base_temperature
        return super().contrast(embeddings, positives) * (1 if base is None else self.spec.temperature / base)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`; "known" is the share of clips whose anatomy is used."""
        return {**super().losses(batch), "known": (self.spec.known_anatomy(batch) >= 0).float().mean()}
