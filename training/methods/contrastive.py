"""Options of every contrastive method, and the network that most of them share: a backbone and a projection head."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from training.methods.base import Method
from training.nn.heads import projector


@dataclass(frozen=True)
class Options:
    """Options of every contrastive method.

    Attributes:
        temperature: by which cosine similarities are divided, above 0; the lower, the more the nearest negatives count.
        projection: width of the embedding in which views are compared.
        forward_views: "separate" runs the backbone once a view, so that BatchNorm sees one view at a time, as in the
            original codes; "concat" runs it once on both.
    """

    temperature: float = 0.5
    projection: int = 256
    forward_views: Literal["separate", "concat"] = "separate"


class Projected(Method):
    """Backbone f -> projection head g. Subclasses add other heads and write `losses`."""

    def __init__(self, backbone: nn.Module, spec: Options) -> None:
        super().__init__(backbone, spec.forward_views)
        self.projector = projector(self.width, self.width, spec.projection)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """[2, N, C, H, W] -> representations [2, N, D], embeddings [2, N, E]."""
        representations = self.encode(views)
        return representations, self.projector(representations)
