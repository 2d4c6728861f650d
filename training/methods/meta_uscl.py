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

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches.batch import Batch
from training.data.views.augment import Augment
from training.methods.base import Autocast, Method, Paper
from training.methods.contrastive import Options, Projected
from training.methods.pairs import InterpolatedPair, two_views
from training.nn.contrastive_loss import nt_xent, weighted_mean
from training.nn.heads import CMWNet
from training.nn.meta_gradient import Lookahead


@dataclass(frozen=True)
class MetaUSCL(InterpolatedPair, Options):
    """Pairs interpolated in the order of time, weighted by CMW-Net.

    Attributes:
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
    meta_share: float = 0.2
    meta_frame: Literal["random", "first"] = "random"
    meta_every: int = 1
    meta_lr: float = 6e-5
    features: Literal["attached", "detached"] = "detached"
    symmetric: bool = True
    derivative: Literal["forward", "difference"] = "forward"

    def meta_views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a meta clip uint8 [T, H, W]: two augmentations of one frame."""
        return two_views(clip[rng.integers(len(clip)) if self.meta_frame == "random" else 0], augment, rng)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; Meta-USCL has no use for classes."""
        return MetaUSCLNet(backbone, self)


class MetaUSCLNet(Projected):
    """Backbone -> projection head -> NT-Xent weighted by CMW-Net, whose optimizer's state is the module's too."""

    looks_ahead = True

    def __init__(self, backbone: nn.Module, spec: MetaUSCL) -> None:
        super().__init__(backbone, spec)
        self.spec = spec
        self.weigher = CMWNet(self.width, spec.symmetric)
        self.weigher_optimizer = torch.optim.Adam(self.weigher.parameters(), spec.meta_lr)

    def learner(self) -> nn.Module:
        """All but CMW-Net."""
        return nn.ModuleDict({name: part for name, part in self.named_children() if part is not self.weigher})

    def get_extra_state(self) -> dict[str, Any]:
        """The state of CMW-Net's optimizer; part of `state_dict`."""
        return self.weigher_optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue CMW-Net's optimizer from a state."""
        self.weigher_optimizer.load_state_dict(state)

    def anchor_losses(self, embeddings: Tensor) -> Tensor:
        """NT-Xent per anchor [2N] of embeddings [2, N, E]; never streamed, which would have no forward mode."""
        first, second = embeddings
        return nt_xent(first, second, self.spec.temperature, streamed=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`; every pair counts as much as any."""
        _, embeddings = self(batch.views)
        return {"loss": self.anchor_losses(embeddings).mean()}

    def step(self, batch: Batch, autocast: Autocast, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """See `Method.step`; a batch with meta clips also moves CMW-Net, before the pairs are weighted."""
        if not self.spec.meta_share:
            return super().step(batch, autocast, optimizer)
        logs = {}
        if len(batch.meta):
            look = Lookahead(self, optimizer, autocast, self.spec.derivative)
            representations, embeddings = look.forward(batch.views)
            logs = self.learn_to_weigh(look, batch.meta, representations)
        else:
            with autocast():
                representations, embeddings = self(batch.views)
        with torch.no_grad():
            weights = self.weigher(representations)
        anchors = self.anchor_losses(embeddings)
        loss = weighted_mean(anchors, weights)
        loss.backward()
        ends = {"lowest_weight": weights.min(), "highest_weight": weights.max()}
        return {"loss": loss, "contrast": anchors.detach().mean(), **ends, **logs}

    def learn_to_weigh(self, look: Lookahead, meta: Tensor, representations: Tensor) -> dict[str, Tensor]:
        """One step of CMW-Net on meta views [2, M, C, H, W]; the meta loss and the size of its gradient."""
        attached = self.spec.features == "attached"

        def inner(seen: Tensor, embeddings: Tensor) -> Tensor:
            weights = self.weigher(seen if attached else representations.detach())
            return weighted_mean(self.anchor_losses(embeddings), weights)

        def outer(_: Tensor, embeddings: Tensor) -> Tensor:
            return self.anchor_losses(embeddings).mean()

        phi = list(self.weigher.parameters())
        gradients, loss = look.meta_gradient(inner, outer, meta, phi)
        for parameter, gradient in zip(phi, gradients, strict=True):
            parameter.grad = gradient
        size = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if torch.isfinite(size):  # else the engine stops the run
            self.weigher_optimizer.step()
        return {"meta": loss, "meta_gradient": size}
