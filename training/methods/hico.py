"""HiCo: hierarchical contrastive learning on ultrasound clips (Zhang et al., ACCV 2022, arXiv 2210.04477).

The mixed pairs of USCL (`MixedPair`), aligned at three levels of the network instead of one, and a label term with
softened labels, because images of different classes look alike in their details. With l, m, g the local, medium and
global embeddings of the views 1 and 2, and o the logits of the classifier,

    peer  = NT(l1, l2) + NT(m1, m2) + NT(g1, g2)
    cross = NT(g1, m2) + NT(g2, m1) + NT(g1, l2) + NT(g2, l1)
    L     = 0.5 * peer + 0.5 * cross + 0.2 * (CE(o1, y~) + CE(o2, y~)),        NT = NT-Xent

Local and medium come from a feature pyramid, or from blocks of a ViT; see `training.nn.feature_pyramid`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.batches.batch import Batch
from training.methods.base import Method, Paper
from training.methods.contrastive import Options
from training.methods.pairs import MixedPair
from training.nn.contrastive_loss import nt_xent
from training.nn.distributed import gather, world_size
from training.nn.feature_pyramid import Levels, Maps, Pyramid
from training.nn.heads import flatten_projector, pooled_projector, projector

Soften = Literal["label_smoothing", "hico_batch", "none"]


@dataclass(frozen=True)
class HiCo(MixedPair, Options):
    """One mixed pair a clip, contrasted at three levels and across them, and a softened label term.

    Where the paper's figure and the released code disagree the default follows the figure, as the paper is what
    readers compare with; the recipe `hico-released` sets every option as the code has it.

    Attributes:
        peer: weight of the contrast within levels.
        cross: weight of the contrast of the global level with the others.
        cross_views: the global embedding of a view meets the lower embeddings of the other view ("across", the
            figure) or its own ("within", the code).
        medium: level of the pyramid that is "medium": p4 (the figure) or p3 (the code). A ladder has its own.
        top: what the global embedding reads: the "representation" of the backbone; the top of the pyramid smoothed by
            a 3x3 convolution, "p5_smooth" (the figure); or unsmoothed, "p5" (the code). Pooled, p5 is a linear map of
            the representation, and the figure's differs from one only at the border; reading the representation
            itself makes sure that all that is released was trained, also where a backbone ends in layers behind its
            last map (ConvNeXt's norm, MobileNet's last convolution). A ladder always reads the representation.
        classify: what the classifier reads: the "global" embedding (the figure), or the representation through a
            layer of its own, "gap" (the code).
        label_weight: weight of the label term; 0 makes the method purely self-supervised.
        soften: how the label is spread over the classes: evenly, by "label_smoothing"; as the code does it, by
            "hico_batch", where the sum depends on how many clips of the batch are labelled; or not at all, "none".
        alpha: share of the label that is spread, 0..1.
        heads: "pooled" averages a level over the image; "flatten" (the code) reads every cell of it, which at 224 px
            and width 256 takes 260 million weights and ties the network to one input size.
        flatten_size: that input size, pixels; only for flatten heads.
        levels: where local and medium come from: a "pyramid" of the maps of the four coarsest resolutions, a "ladder"
            of the blocks at one and two thirds of the depth, or whichever fits the backbone, "auto".
        pyramid_width: channels of the pyramid; the code has 256. Nearly all of the pyramid's time goes into the 3x3
            convolution of p2, which grows with the square of it: at 256 it costs as much as a whole ResNet-18.
    """

    name: ClassVar = "hico"
    paper: ClassVar = Paper("HiCo (Zhang et al., ACCV 2022)", "https://arxiv.org/abs/2210.04477")

    peer: float = 0.5
    cross: float = 0.5
    cross_views: Literal["across", "within"] = "across"
    medium: Literal["p4", "p3"] = "p4"
    top: Literal["representation", "p5_smooth", "p5"] = "representation"
    classify: Literal["global", "gap"] = "global"
    label_weight: float = 0.2
    soften: Soften = "label_smoothing"
    alpha: float = 0.2
    heads: Literal["pooled", "flatten"] = "pooled"
    flatten_size: int = 224
    levels: Levels = "auto"
    pyramid_width: int = 64

    def build(self, backbone: nn.Module, classes: int) -> Method:
        """The network, with a classifier if the corpus has classes and the label term has weight."""
        return HiCoNet(backbone, self, classes if self.label_weight else 0)


class HiCoNet(Method):
    """Backbone, pyramid (none for a ladder), a projection head a level, classifier."""

    def __init__(self, backbone: nn.Module, spec: HiCo, classes: int) -> None:
        super().__init__(backbone, spec.forward_views)
        self.spec = spec
        self.maps = Maps(backbone, spec.levels)
        self.top_is_representation = not self.maps.pyramid or spec.top == "representation"
        channels, reductions, self.pyramid = self.maps.channels, self.maps.reductions, None
        if self.maps.pyramid:
            wanted = ["p2", spec.medium] + ["p5"] * (not self.top_is_representation)
            smooth = [level for level in wanted if level != "p5" or spec.top == "p5_smooth"]
            self.pyramid = Pyramid(channels, spec.pyramid_width, wanted, smooth)
            channels, reductions = [spec.pyramid_width] * len(wanted), [reductions[int(p[1]) - 2] for p in wanted]
        self.projectors = nn.ModuleList(map(self._map_projector, channels, reductions))
        if self.top_is_representation:
            self.projectors.append(projector(self.width, self.width, spec.projection))
        self.classifier: nn.Module | None = None
        if classes and spec.classify == "global":
            self.classifier = nn.Linear(spec.projection, classes)
        elif classes:
            self.classifier = projector(self.width, spec.projection, classes)

    def _map_projector(self, channels: int, reduction: int) -> nn.Module:
        if self.spec.heads == "flatten":
            return flatten_projector(channels, -(-self.spec.flatten_size // reduction), self.spec.projection)
        return pooled_projector(channels, self.spec.projection, rectify=self.pyramid is not None)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] -> representation [N, D], and the local, medium and global embeddings [3, N, E]."""
        representation, maps = self.maps(self.backbone, images)
        levels = maps if self.pyramid is None else self.pyramid(maps)
        if self.top_is_representation:
            levels = [*levels, representation]
        return representation, torch.stack([head(level) for head, level in zip(self.projectors, levels, strict=True)])

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """[V, N, C, H, W] -> representations [V, N, D], embeddings [3, V, N, E]; one pass of the backbone a view.

        Raises:
            ValueError: if the heads are flat and were made for views of another size.
        """
        if self.spec.heads == "flatten" and views.shape[-1] != self.spec.flatten_size:
            raise ValueError(
                f"flatten heads made for {self.spec.flatten_size} px cannot read views of {views.shape[-1]} px: "
                f"set --method.flatten-size {views.shape[-1]}, or --method.heads pooled"
            )
        if self.forward_views == "concat":
            representations, embeddings = self.embed(views.flatten(0, 1))
            return representations.unflatten(0, views.shape[:2]), embeddings.unflatten(1, views.shape[:2])
        seen = [self.embed(view.contiguous(memory_format=torch.channels_last)) for view in views]
        return torch.stack([r for r, _ in seen]), torch.stack([e for _, e in seen], dim=1)

    def peer(self, embeddings: Tensor) -> Tensor:
        """Contrast within the levels of embeddings [3, 2, N, E], added up."""
        return torch.stack([self._contrast(first, second) for first, second in embeddings]).sum(0).mean()

    def cross(self, embeddings: Tensor) -> Tensor:
        """Contrast between the global level and the others of embeddings [3, 2, N, E], added up."""
        local, medium, top = embeddings
        lower = [level.flip(0) if self.spec.cross_views == "across" else level for level in (medium, local)]
        pairs = [(top[view], level[view]) for level in lower for view in (0, 1)]
        return torch.stack([self._contrast(*pair) for pair in pairs]).sum(0).mean()

    def _contrast(self, first: Tensor, second: Tensor) -> Tensor:
        return nt_xent(first, second, self.spec.temperature)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        spec = self.spec
        representations, embeddings = self(batch.views)
        peer, cross = self.peer(embeddings), self.cross(embeddings)
        contrast = spec.peer * peer + spec.cross * cross
        logged = {"contrast": contrast.detach(), "peer": peer.detach(), "cross": cross.detach()}
        if self.classifier is None:
            return {"loss": contrast, **logged}
        seen = embeddings[2] if spec.classify == "global" else representations
        terms = [soft_cross_entropy(self.classifier(v), batch.labels, spec.alpha, spec.soften) for v in seen]
        label = torch.stack(terms).sum()
        return {"loss": contrast + spec.label_weight * label, **logged, "label": label.detach()}


def soft_targets(labels: Tensor, classes: int, alpha: float, soften: Soften, labeled: int) -> Tensor:
    """Softened labels, float64 [n, classes], of labels int64 [n].

    "label_smoothing" is (1 - alpha) * onehot + alpha / classes, which sums to one. "hico_batch" is the released
    (1 - alpha) * onehot + alpha / (labelled - 1) with the number of labelled clips in the batch, as if they were the
    classes: of 12 classes it sums to 0.88 for 32 clips and to 3.2 for 2. A single one, for which the released code
    divides by zero, is softened as if it were one of two. "none" is the plain onehot.
    """
    onehot = F.one_hot(labels, classes).double()
    if soften == "none":
        return onehot
    return (1 - alpha) * onehot + alpha / (classes if soften == "label_smoothing" else max(labeled - 1, 1))


def soft_cross_entropy(logits: Tensor, labels: Tensor, alpha: float, soften: Soften) -> Tensor:
    """Mean cross-entropy of the labelled rows of all processes with their softened labels; exactly 0 without any.

    Args:
        logits: [N, classes].
        labels: int64 [N], -1 where unlabelled.
        alpha: see `soft_targets`.
        soften: see `soft_targets`.
    """
    known = labels >= 0
    labeled = int(gather(known.sum()[None]).sum())
    if not labeled:
        return logits.new_zeros(())
    logs = F.log_softmax(logits[known].to(torch.promote_types(logits.dtype, torch.float32)), dim=1)
    targets = soft_targets(labels[known], logits.shape[1], alpha, soften, labeled).to(logs.dtype)
    return -(targets * logs).sum() * world_size() / labeled
