"""USCL: semi-supervised contrastive learning on ultrasound clips (Chen et al., MICCAI 2021, arXiv 2011.13066).

Frames of one clip are nearly the same, so they must never be negatives of one another: a clip gives exactly one pair
a step. Both views are mixtures with a common anchor frame, and a clip's weak label, where there is one, adds a
cross-entropy term:

    v1 = lam1 * t1 + (1 - lam1) * t2        t1, t2, t3 = augmented frames of the clip
    v2 = lam2 * t3 + (1 - lam2) * t2        lam ~ Beta(a, a)
    L  = NT-Xent(g(f(v1)), g(f(v2))) + weight * (CE(h(v1), y) + CE(h(v2), y))
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches.sampling import Batch
from training.data.views.augment import Augment
from training.methods.base import Method, Paper
from training.methods.contrastive import Options
from training.nn.contrastive_loss import labelled_cross_entropy, nt_xent
from training.nn.heads import projector


@dataclass(frozen=True)
class USCL(Options):
    """One interpolated pair a clip, NT-Xent, and a label term.

    Attributes:
        lam: "independent" draws a coefficient a view, as the paper's formula has it; "shared" draws one for both, as
            the released code does. Shared makes one pair in seven nearly identical (lam below 0.05), so it is not
            the default.
        beta: parameter a of the coefficient's Beta(a, a) distribution, above 0; 1 is uniform, less favours one frame.
        label_weight: weight of the label term; 0 makes the method purely self-supervised.
        classify: what the classifier h reads: the "representation" f, as the paper's figure shows, or the
            "projection" g, as the released code does. The representation is what is released, so it is the default.
    """

    name: ClassVar = "uscl"
    paper: ClassVar = Paper("USCL (Chen et al., MICCAI 2021)", "https://arxiv.org/abs/2011.13066")

    lam: Literal["independent", "shared"] = "independent"
    beta: float = 0.5
    label_weight: float = 0.2
    classify: Literal["representation", "projection"] = "representation"

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]: mixed if T >= 3, two frames if T = 2, one twice if T = 1."""
        if len(clip) < 3:
            frames = clip[rng.permutation(2)] if len(clip) == 2 else clip[[0, 0]]
            return np.stack([augment(frame, rng) for frame in frames]).astype(np.float32)
        chosen = rng.choice(len(clip), 3, replace=False)
        start, anchor, end = (augment(clip[index], rng).astype(np.float32) for index in chosen)
        lam1, lam2 = rng.beta(self.beta, self.beta, 2).astype(np.float32)
        if self.lam == "shared":
            lam2 = lam1
        return np.stack([lam1 * start + (1 - lam1) * anchor, lam2 * end + (1 - lam2) * anchor])

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network, with a classifier if the corpus has classes and the label term has weight."""
        return USCLNet(backbone, self, classes if self.label_weight else 0)


class USCLNet(Method):
    """Backbone f, projector g, classifier h."""

    def __init__(self, backbone: nn.Module, spec: USCL, classes: int) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.projector = projector(self.width, self.width, spec.projection)
        self.classifier = None
        if classes:
            self.classifier = nn.Linear(self.width if spec.classify == "representation" else spec.projection, classes)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        representations = self.represent(batch.views)
        projections = self.projector(representations)
        first, second = projections
        contrast = nt_xent(first, second, self.spec.temperature).mean()
        if self.classifier is None:
            return {"loss": contrast, "contrast": contrast.detach()}
        seen = representations if self.spec.classify == "representation" else projections
        label = torch.stack([labelled_cross_entropy(self.classifier(view), batch.labels) for view in seen]).sum()
        loss = contrast + self.spec.label_weight * label
        return {"loss": loss, "contrast": contrast.detach(), "label": label.detach()}
