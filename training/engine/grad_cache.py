"""A batch that passes the backbone in pieces, with the gradient of the whole batch (GradCache, Gao et al. 2021).

Adding up the gradients of small batches is not the same: each anchor would only meet the negatives of its own piece.
Here the loss sees all embeddings at once:

    1.  r = f(x), a piece at a time and without a graph
    2.  loss(r) on the whole batch with all heads; its backward pass gives their gradients and dL/dr
    3.  f again, a piece at a time and with a graph, each followed by its backward pass from dL/dr

Memory is that of one piece, time a third more (one more forward pass). Dropout and drop path see the same random
numbers in both passes, so the gradient is exact, but for BatchNorm: it normalises each piece by itself, as in training
with batches of that size, and its running statistics move once a piece. The heads are small and see the whole batch.
"""

from typing import Any

import torch
from torch import Tensor, nn

from training.data.batches.batch import Batch
from training.errors import TrainingError
from training.methods.base import Autocast, Method
from training.nn.meta_gradient import without_running_statistics
from training.nn.rng import TorchState, replayed, torch_state


def accumulated_step(
    method: Method, batch: Batch, autocast: Autocast, optimizer: torch.optim.Optimizer, pieces: int
) -> dict[str, Tensor]:
    """`Method.step` with the backbone's work in pieces.

    Raises:
        TrainingError: if the method does not call its backbone as a whole.
    """
    backbone = method.backbone
    cached = _Cached(backbone, pieces, type(method).__name__)
    method.backbone = cached
    try:
        losses = method.step(batch, autocast, optimizer)
    finally:
        method.backbone = backbone
    cached.backward(autocast)
    return losses


class _Cached(nn.Module):
    """Stands in for a backbone: gives representations without a graph, and remembers what it takes to make one."""

    def __init__(self, backbone: nn.Module, pieces: int, method: str) -> None:
        super().__init__()
        self.pieces, self.method = pieces, method
        self.real = (backbone,)  # in a tuple, so that it is no submodule and keeps its place
        self.calls: list[tuple[list[tuple[Tensor, TorchState]], Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            raise TrainingError(
                f"{self.method} asks its backbone for {name}, not just for a representation, so its batches cannot be "
                "accumulated: set --accumulate 1, and --checkpoint-blocks to save memory"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] -> representations [N, D], a leaf."""
        (backbone,), done, outputs = self.real, [], []
        with torch.no_grad(), without_running_statistics(backbone):
            for piece in images.chunk(self.pieces):
                done.append((piece, torch_state(piece.device)))
                outputs.append(backbone(piece))
        leaf = torch.cat(outputs).requires_grad_()
        self.calls.append((done, leaf))
        return leaf

    def backward(self, autocast: Autocast) -> None:
        """Leave the gradient on the backbone."""
        (backbone,) = self.real
        for done, leaf in self.calls:
            if leaf.grad is None:
                continue
            for (piece, state), grad in zip(done, leaf.grad.split([len(p) for p, _ in done]), strict=True):
                with replayed(state, piece.device):
                    with autocast():
                        output = backbone(piece)
                    output.backward(grad)
