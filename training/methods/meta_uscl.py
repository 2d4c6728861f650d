"""Meta-USCL: interpolated pairs that learn how much they count (Chen et al., IEEE TMI, arXiv 2212.04097).

Two ideas on top of SimCLR on clips. A pair is two mixtures of frames in the order of time, made before augmentation, so
both views stay within what the clip shows ("positive pair interpolation"). And a small network phi, CMW-Net, weighs the
pairs: it sees the two representations, and is trained to give the weights under which one step on the weighted loss
most lowers the unweighted loss of clean meta pairs, two augmentations of one frame of clips that are never trained on:

    x1 = (1 - a) f1 + a f2,   x2 = b f2 + (1 - b) f3,   a, b ~ Beta(3, 5),   f1 before f2 before f3
    L(theta, phi) = sum_i w_i(phi) l_i(theta) / sum_i w_i(phi),   l = NT-Xent of (x1, x2) per anchor
    phi   <- Adam(phi,   d NT-Xent(meta pairs; theta') / dphi),   theta' = step(theta, dL/dtheta)
    theta <- step(theta, dL/dtheta with the new phi)
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches.sampling import Batch
from training.data.views.augment import Augment
from training.methods.awcl import AWCL, AWCLNet
from training.methods.base import Autocast, Method, Paper
from training.methods.contrastive import Contrast, Options
from training.methods.hico import HiCo, HiCoNet
from training.methods.pairs import Interpolation
from training.methods.simclr import SimCLR, SimCLRNet
from training.nn.contrastive_loss import weighted_mean
from training.nn.heads import CMWNet
from training.nn.meta_gradient import Lookahead


@dataclass(frozen=True)
class MetaUSCL(Interpolation, Options):
    """Pairs interpolated in the order of time, weighted by CMW-Net.

    Attributes:
        contrast: what the weights weigh: the plain "pairs" (the paper), the "levels" of HiCo or the "anatomy" of AWCL,
            with the defaults of those two and without a label term. The meta loss is that of the clips' own pairs.
        meta_share: share of the groups (of those not kept for validation) whose clips give meta pairs and are never
            trained on. The released code means to do so, but its indices point into another list and four in five of
            its meta clips are trained on. 0 leaves CMW-Net out: interpolation alone.
        meta_frame: the frame of a meta clip: a "random" one, or the "first", which is all that the released code uses.
        meta_every: steps from one update of CMW-Net to the next; an update makes a step more than three times as long.
        meta_lr: learning rate of CMW-Net's Adam, constant; the authors tuned it with care.
        features: whether the virtual step also moves the representations that CMW-Net sees, to make costly pairs count
            less ("attached", the released code), or takes the weights as constants, as the real step does ("detached").
        symmetric: average CMW-Net over both orders of the views. The released code does not, so that it can tell the
            earlier view from the later.
        derivative: "forward" is exact, in forward mode; "difference" takes a central difference, to about 1e-3, for a
            backbone with an operator that has no forward mode.
    """

    name: ClassVar = "meta_uscl"
    paper: ClassVar = Paper("Meta-USCL (Chen et al., IEEE TMI)", "https://arxiv.org/abs/2212.04097")

    projection: int = 128
    contrast: Literal["pairs", "levels", "anatomy"] = "pairs"
    meta_share: float = 0.2
    meta_frame: Literal["random", "first"] = "random"
    meta_every: int = 1
    meta_lr: float = 6e-5
    features: Literal["attached", "detached"] = "detached"
    symmetric: bool = True
    derivative: Literal["forward", "difference"] = "forward"

    def meta_views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a meta clip uint8 [T, H, W]: two augmentations of one frame."""
        frame = clip[rng.integers(len(clip)) if self.meta_frame == "random" else 0]
        return np.stack([augment(frame, rng), augment(frame, rng)]).astype(np.float32)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; Meta-USCL has no use for classes."""
        return {"pairs": MetaUSCLNet, "levels": MetaLevelsNet, "anatomy": MetaAnatomyNet}[self.contrast](backbone, self)


class Weighed(Contrast):
    """CMW-Net on top of any `Contrast`, with an optimiser of its own, whose state is the module's too.

    To be inherited from before that `Contrast`, whose specification is then `contrasted`.
    """

    looks_ahead = True
    streamed = False  # the streamed loss has no forward mode

    def __init__(self, backbone: nn.Module, weighing: MetaUSCL, contrasted: Any) -> None:
        options = {field.name: getattr(weighing, field.name) for field in fields(Options)}
        super().__init__(backbone, replace(contrasted, **options))
        self.weighing = weighing
        self.weigher = CMWNet(self.width, weighing.symmetric)
        self.weigher_optimiser = torch.optim.Adam(self.weigher.parameters(), weighing.meta_lr)

    def learner(self) -> nn.Module:
        """All but CMW-Net."""
        return nn.ModuleDict({name: part for name, part in self.named_children() if part is not self.weigher})

    def get_extra_state(self) -> dict[str, Any]:
        """The state of CMW-Net's optimiser; part of `state_dict`."""
        return self.weigher_optimiser.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue CMW-Net's optimiser from a state."""
        self.weigher_optimiser.load_state_dict(state)

    def step(self, batch: Batch, autocast: Autocast, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
        """See `Method.step`; a batch with meta clips also moves CMW-Net, before the pairs are weighed."""
        if not self.weighing.meta_share:
            return super().step(batch, autocast, optimiser)
        logs, positives = {}, self.positives(batch)
        if len(batch.meta):
            look = Lookahead(self, optimiser, autocast, self.weighing.derivative)
            representations, embeddings = look.forward(batch.views)
            logs = self.learn_to_weigh(look, batch.meta, representations, positives)
        else:
            with autocast():
                representations, embeddings = self(batch.views)
        with torch.no_grad():
            weights = self.weigher(representations)
        contrast = self.contrast(embeddings, positives)
        loss = weighted_mean(contrast, weights)
        loss.backward()
        ends = {"lowest_weight": weights.min(), "highest_weight": weights.max()}
        return {"loss": loss, "contrast": contrast.detach().mean(), **ends, **logs}

    def learn_to_weigh(
        self, look: Lookahead, meta: Tensor, representations: Tensor, positives: Tensor | None
    ) -> dict[str, Tensor]:
        """One step of CMW-Net on meta views [2, M, C, H, W]; the meta loss and the size of its gradient."""
        attached = self.weighing.features == "attached"

        def inner(seen: Tensor, embeddings: Tensor) -> Tensor:
            weights = self.weigher(seen if attached else representations.detach())
            return weighted_mean(self.contrast(embeddings, positives), weights)

        def outer(_: Tensor, embeddings: Tensor) -> Tensor:
            return self.contrast(embeddings).mean()

        phi = list(self.weigher.parameters())
        gradients, loss = look.meta_gradient(inner, outer, meta, phi)
        for parameter, gradient in zip(phi, gradients, strict=True):
            parameter.grad = gradient
        size = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if torch.isfinite(size):  # else the engine stops the run
            self.weigher_optimiser.step()
        return {"meta": loss, "meta_gradient": size}


class MetaUSCLNet(Weighed, SimCLRNet):
    """Backbone -> projector -> NT-Xent, weighed."""

    def __init__(self, backbone: nn.Module, weighing: MetaUSCL) -> None:
        super().__init__(backbone, weighing, SimCLR())


class MetaLevelsNet(Weighed, HiCoNet):
    """HiCo's levels, weighed."""

    def __init__(self, backbone: nn.Module, weighing: MetaUSCL) -> None:
        super().__init__(backbone, weighing, HiCo(label_weight=0))


class MetaAnatomyNet(Weighed, AWCLNet):
    """AWCL's positives, weighed."""

    def __init__(self, backbone: nn.Module, weighing: MetaUSCL) -> None:
        super().__init__(backbone, weighing, AWCL())
