"""AWCL: anatomy-aware contrastive learning on frames (Fu et al., ECCV MCV workshop 2022, arXiv 2208.10642).

Frames of one anatomy, of any patient, attract one another; a frame of unknown anatomy only attracts its own second
view. In the masked loss of `training.nn.contrastive_loss` that is a choice of the positives P(i) of an anchor i:

    P(i) = views of the same anatomy, the own second view among them    where the anatomy is known
    P(i) = the own second view                                          where it is not

With no anatomy known at all this is SimCLR.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches.at_once import Draws
from training.data.batches.batch import Batch, Known
from training.data.views.augment import Augment
from training.methods.base import Method, Paper
from training.methods.contrastive import Options, Projected
from training.methods.pairs import FramePair
from training.nn.contrastive_loss import contrastive, other_view, same_class


@dataclass(frozen=True)
class AWCL(FramePair, Options):
    """Two views of a frame; views of the same anatomy are positives of one another.

    Frames that show no anatomy in particular (the released code's background class) are best left without one in the
    manifest, or they will all attract one another.

    Attributes:
        granularity: which frames are of the same anatomy: those of one organ ("coarse") or of one anatomy within an
            organ ("fine"), by the manifest's columns organ and anatomy. The paper found fine the better.
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
    granularity: Literal["coarse", "fine"] = "fine"
    anatomy_ratio: float = 1.0
    anatomy_seed: int = 0
    switch: Literal["anchor", "batch"] = "anchor"
    base_temperature: float | None = None
    tone_known: bool = False

    def informed_views(
        self, clip: np.ndarray, known: Known, augment: Augment, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """As `views`, with the tone of a clip of known anatomy changed where the option says so; the weight is 1."""
        if self.tone_known and known.anatomy[self._column] >= 0 and self.may_use(known.clip):
            clip = tone_curve(*rng.uniform(0.75, 1.25, 2))[clip]
        return self.views(clip, augment, rng), 1.0

    def draw_at_once(self, draws: Draws) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairsAtOnce`; frames whose tone is changed are none of the cache's."""
        return None if self.tone_known else super().draw_at_once(draws)

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


class AWCLNet(Projected):
    """Backbone -> projection head -> contrastive loss with positives by anatomy."""

    def __init__(self, backbone: nn.Module, spec: AWCL) -> None:
        super().__init__(backbone, spec)
        self.spec = spec

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`; "known" is the share of clips whose anatomy is used."""
        spec, anatomy = self.spec, self.spec.known_anatomy(batch)
        _, embeddings = self(batch.views)
        anchors = contrastive(embeddings.flatten(0, 1), positives_of(anatomy, spec.switch), spec.temperature)
        factor = 1 if spec.base_temperature is None else spec.temperature / spec.base_temperature
        return {"loss": (anchors * factor).mean(), "known": (anatomy >= 0).float().mean()}


def positives_of(anatomy: Tensor, switch: Literal["anchor", "batch"]) -> Tensor:
    """The mask of positives that `contrastive` takes, for two views of N clips, the first views first.

    Args:
        anatomy: int64 [N], -1 where unknown.
        switch: see `AWCL`.
    """
    if switch == "batch":
        anatomy = anatomy + 1 if anatomy[0] >= 0 else torch.full_like(anatomy, -1)
    return same_class(anatomy.repeat(2)) | other_view(len(anatomy), device=anatomy.device)
