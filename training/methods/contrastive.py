"""What the contrastive methods share: three options, and a loss that is a mean over anchors, which can be weighed."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from training.data.batches.sampling import Batch
from training.methods.base import Method
from training.nn.contrastive_loss import contrastive, nt_xent


@dataclass(frozen=True)
class Options:
    """Of every contrastive method.

    Attributes:
        temperature: by which cosine similarities are divided, above 0; the lower, the more the nearest negatives count.
        projection: width of the embedding that is compared.
        forward_views: "separate" runs the backbone once a view, so that BatchNorm sees one view at a time, as in the
            original codes; "concat" runs it once on both.
    """

    temperature: float = 0.5
    projection: int = 256
    forward_views: Literal["separate", "concat"] = "separate"


class Contrast(Method):
    """Views -> embeddings -> losses of the anchors. Subclasses write `forward` and `contrast`.

    Attributes:
        streamed: how `contrast` computes similarities, see `training.nn.contrastive_loss.contrastive`.
    """

    streamed: ClassVar[bool | None] = None

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """[2, N, C, H, W] -> representations [2, N, D], embeddings [..., 2, N, E]."""
        raise NotImplementedError

    def contrast(self, embeddings: Tensor, positives: Tensor | None = None) -> Tensor:
        """Losses [2N] of the anchors, those of the first views first.

        Args:
            embeddings: as `forward` gives them.
            positives: the mask of `positives`.
        """
        raise NotImplementedError

    def positives(self, batch: Batch) -> Tensor | None:
        """Which views attract one another, bool [2N, world_size() * 2N]; None: the two views of a clip, no others."""
        return None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `Method.losses`."""
        _, embeddings = self(batch.views)
        return {"loss": self.contrast(embeddings, self.positives(batch)).mean()}

    def between(self, first: Tensor, second: Tensor, temperature: float, positives: Tensor | None) -> Tensor:
        """Losses [2N] between embeddings [N, E] of the same clips."""
        if positives is None:
            return nt_xent(first, second, temperature, self.streamed)
        return contrastive(torch.cat([first, second]), positives, temperature, self.streamed)
