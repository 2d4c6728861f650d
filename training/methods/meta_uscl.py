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

from training.data.augment import Augment
from training.data.sampling import Batch
from training.heads import CMWNet, projector
from training.lookahead import Lookahead
from training.losses import nt_xent, weighted_mean
from training.methods.base import Autocast, Method, Paper


@dataclass(frozen=True)
class MetaUSCL:
    """Pairs interpolated in the order of time, weighted by CMW-Net.

    Attributes:
        temperature: of NT-Xent.
        projection: width of the embedding.
        interpolate: "standard" mixes the middle one of three frames into each of the others; "inner" mixes `frames`
            frames with weights uniform on the simplex, drawn for each view.
        frames: number of frames of "inner", at least 3.
        max_dist: largest distance in frames from the first to another frame of a pair; None is no limit.
        beta: parameters of the Beta distribution of the middle frame's share; (3, 5) has mean 0.375.
        meta_share: share of the groups (of those not kept for validation) whose clips give meta pairs and are never
            trained on. The released code means to do so, but its indices point into another list and four in five of
            its meta clips are trained on. 0 leaves CMW-Net out: interpolation alone.
        meta_frame: the frame of a meta clip: a "random" one, or the "first", which is all that the released code uses.
        meta_every: steps from one update of CMW-Net to the next; an update makes a step more than three times as long.
        meta_lr: learning rate of CMW-Net's Adam; the authors tuned it with care.
        features: whether the virtual step also moves the representations that CMW-Net sees, to make costly pairs count
            less ("attached", the released code), or takes the weights as constants, as the real step does ("detached").
        symmetric: average CMW-Net over both orders of the views. The released code does not, so that it can tell the
            earlier view from the later.
        derivative: see `Lookahead`.
        forward_views: see `Method`.
    """

    name: ClassVar = "meta_uscl"
    paper: ClassVar = Paper("Meta-USCL (Chen et al., IEEE TMI)", "https://arxiv.org/abs/2212.04097")

    temperature: float = 0.5
    projection: int = 128
    interpolate: Literal["standard", "inner"] = "standard"
    frames: int = 3
    max_dist: int | None = None
    beta: tuple[float, float] = (3.0, 5.0)
    meta_share: float = 0.2
    meta_frame: Literal["random", "first"] = "random"
    meta_every: int = 1
    meta_lr: float = 6e-5
    features: Literal["attached", "detached"] = "detached"
    symmetric: bool = True
    derivative: Literal["forward", "difference"] = "forward"
    forward_views: Literal["separate", "concat"] = "separate"

    def views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a clip uint8 [T, H, W]: mixed if T >= 3, two frames if T = 2, one twice if T = 1."""
        frames = clip[self.draw_frames(len(clip), rng)]
        if len(frames) >= 3:
            shares = rng.dirichlet(np.ones(len(frames)), 2) if self.interpolate == "inner" else self._shares(rng)
            frames = np.tensordot(shares, frames, axes=1).astype(np.uint8)  # rounds down, as the released code does
        return np.stack([augment(frame, rng) for frame in frames[[0, -1]]]).astype(np.float32)

    def draw_frames(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the frames of a pair in the order of time: a first one and others at different distances."""
        furthest = count - 1 if self.max_dist is None else min(count - 1, self.max_dist)
        others = min(self.frames - 1 if self.interpolate == "inner" else 2, furthest)
        distances = np.sort(1 + rng.choice(furthest, others, replace=False)) if others else np.array([0])
        first = rng.integers(count - distances[-1])
        return np.concatenate([[first], first + distances])

    def _shares(self, rng: np.random.Generator) -> np.ndarray:
        """[2, 3]: the share of each of three frames in each view."""
        a, b = rng.beta(*self.beta, 2)
        return np.array([[1 - a, a, 0], [0, b, 1 - b]])

    def meta_views(self, clip: np.ndarray, augment: Augment, rng: np.random.Generator) -> np.ndarray:
        """float32 [2, S, S] from a meta clip uint8 [T, H, W]: two augmentations of one frame."""
        frame = clip[rng.integers(len(clip)) if self.meta_frame == "random" else 0]
        return np.stack([augment(frame, rng), augment(frame, rng)]).astype(np.float32)

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network; Meta-USCL has no use for classes."""
        return MetaUSCLNet(backbone, self)


class MetaUSCLNet(Method):
    """Backbone -> projector -> NT-Xent, and CMW-Net with an optimiser of its own, whose state is the module's too."""

    looks_ahead = True

    def __init__(self, backbone: nn.Module, spec: MetaUSCL) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.projector = projector(self.width, self.width, spec.projection)
        self.weigher = CMWNet(self.width, spec.symmetric)
        self.weigher_optimiser = torch.optim.Adam(self.weigher.parameters(), spec.meta_lr)

    def learner(self) -> nn.Module:
        """Backbone and projector."""
        return nn.ModuleDict({"backbone": self.backbone, "projector": self.projector})

    def get_extra_state(self) -> dict[str, Any]:
        """The state of CMW-Net's optimiser; part of `state_dict`."""
        return self.weigher_optimiser.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue CMW-Net's optimiser from a state."""
        self.weigher_optimiser.load_state_dict(state)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """[2, N, C, H, W] -> representations [2, N, D], embeddings [2, N, E]."""
        representations = self.represent(views)
        return representations, self.projector(representations)

    def contrast(self, embeddings: Tensor) -> Tensor:
        """[2, N, E] -> per-anchor losses [2N], in the form that can be differentiated forwards."""
        first, second = embeddings
        return nt_xent(first, second, self.spec.temperature, streamed=False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`; unweighted, as the pairs to validate on are."""
        return {"loss": self.contrast(self(batch.views)[1]).mean()}

    def step(self, batch: Batch, autocast: Autocast, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
        """See `Method.step`; a batch with meta clips also moves CMW-Net, before the pairs are weighed."""
        if not self.spec.meta_share:
            return super().step(batch, autocast, optimiser)
        logs = {}
        if len(batch.meta):
            look = Lookahead(self, optimiser, autocast, self.spec.derivative)
            representations, embeddings = look.forward(batch.views)
            logs = self.learn_to_weigh(look, batch.meta, representations)
        else:
            with autocast():
                representations, embeddings = self(batch.views)
        with torch.no_grad():
            weights = self.weigher(representations)
        contrast = self.contrast(embeddings)
        loss = weighted_mean(contrast, weights)
        loss.backward()
        ends = {"lowest_weight": weights.min(), "highest_weight": weights.max()}
        return {"loss": loss, "contrast": contrast.detach().mean(), **ends, **logs}

    def learn_to_weigh(self, look: Lookahead, meta: Tensor, representations: Tensor) -> dict[str, Tensor]:
        """One step of CMW-Net on meta views [2, M, C, H, W]; the meta loss and the size of its gradient."""
        attached = self.spec.features == "attached"

        def inner(seen: Tensor, embeddings: Tensor) -> Tensor:
            return weighted_mean(
                self.contrast(embeddings), self.weigher(seen if attached else representations.detach())
            )

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
