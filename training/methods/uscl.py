"""USCL: semi-supervised contrastive learning on ultrasound clips (Chen et al., MICCAI 2021, arXiv 2011.13066).

A clip gives one pair of mixtures with a common anchor frame (`MixedPair`), and its weak label, where there is one, adds
a cross-entropy term. With the backbone f, the projection head g and the classifier h,

    v1 = lam1 * t1 + (1 - lam1) * t2        t1, t2, t3 = augmented frames of the clip
    v2 = lam2 * t3 + (1 - lam2) * t2        lam ~ Beta(a, a)
    L  = NT-Xent(g(f(v1)), g(f(v2))) + weight * (CE(h(f(v1)), y) + CE(h(f(v2)), y))
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from training.data.batches.batch import Batch
from training.methods.base import Method, Paper
from training.methods.contrastive import Options, Projected
from training.methods.pairs import MixedPair
from training.nn.contrastive_loss import labeled_cross_entropy, nt_xent


@dataclass(frozen=True)
class USCL(MixedPair, Options):
    """One mixed pair a clip, NT-Xent, and a label term.

    Attributes:
        label_weight: weight of the label term; 0 makes the method purely self-supervised.
        classify: what the classifier h reads: the "representation" f, as the paper's figure shows, or the
            "projection" g, as the released code does. The representation is what is released, so it is the default.
    """

    name: ClassVar = "uscl"
    paper: ClassVar = Paper("USCL (Chen et al., MICCAI 2021)", "https://arxiv.org/abs/2011.13066")

    label_weight: float = 0.2
    classify: Literal["representation", "projection"] = "representation"

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network, with a classifier if the corpus has classes and the label term has weight."""
        return USCLNet(backbone, self, classes if self.label_weight else 0)


class USCLNet(Projected):
    """Backbone f, projection head g, classifier h."""

    def __init__(self, backbone: nn.Module, spec: USCL, classes: int) -> None:
        super().__init__(backbone, spec)
        self.spec = spec
        self.classifier = None
        if classes:
            self.classifier = nn.Linear(self.width if spec.classify == "representation" else spec.projection, classes)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        representations, embeddings = self(batch.views)
        first, second = embeddings
        contrast = nt_xent(first, second, self.spec.temperature).mean()
        if self.classifier is None:
            return {"loss": contrast, "contrast": contrast.detach()}
        seen = representations if self.spec.classify == "representation" else embeddings
        label = torch.stack([labeled_cross_entropy(self.classifier(view), batch.labels) for view in seen]).sum()
        loss = contrast + self.spec.label_weight * label
        return {"loss": loss, "contrast": contrast.detach(), "label": label.detach()}
