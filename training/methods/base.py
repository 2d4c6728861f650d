"""The interface of a method: a specification that draws views and builds a network, and the network itself.

A method is one file with two classes. The specification (a frozen dataclass, so that it can be printed, saved and
overridden on the command line) draws the views of a clip and builds the network; the network turns a batch into losses.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from training.data.batches.batch import Batch, Pairs

Autocast = Callable[[], AbstractContextManager[Any]]


class Paper(NamedTuple):
    """The publication that a weight's card cites."""

    title: str
    url: str


class Spec(Pairs, Protocol):
    """A method's specification."""

    name: ClassVar[str]  # the name in tags and cards
    paper: ClassVar[Paper]

    def build(self, backbone: nn.Module, classes: int) -> "Method":
        """The network of this method around a timm backbone that was made with num_classes=0."""
        ...


class Method(nn.Module):
    """A backbone, its heads and a loss. Subclasses add heads and write `losses`.

    Attributes:
        looks_ahead: whether `step` looks ahead of the optimizer, which must then step with the gradient as it is left.

    Args:
        backbone: timm model, num_classes=0, called on [N, C, H, W] -> [N, num_features].
        forward_views: "separate" runs the backbone once a view, so that BatchNorm sees one view at a time as in the
            original codes; "concat" runs it once on all views together.
    """

    looks_ahead: ClassVar[bool] = False

    def __init__(self, backbone: nn.Module, forward_views: str = "separate") -> None:
        super().__init__()
        self.backbone = backbone
        self.forward_views = forward_views
        self.width = cast("int", backbone.num_features)  # D

    def learner(self) -> nn.Module:
        """The part that the engine's optimizer trains: all but what the method trains by itself."""
        return self

    def encode(self, views: Tensor) -> Tensor:
        """[V, N, C, H, W] -> representations [V, N, D]; one pass of the backbone a view."""
        if self.forward_views == "concat":
            return self.backbone(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        return torch.stack([self.backbone(view.contiguous(memory_format=torch.channels_last)) for view in views])

    def step(self, batch: Batch, autocast: Autocast, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Leave the gradient of one batch on the parameters; the engine then steps the optimizer.

        Args:
            batch: on the method's device.
            autocast: makes the context in which the forward pass is computed.
            optimizer: the one that will step, for methods that look ahead of it.
        """
        with autocast():
            losses = self.losses(batch)
        losses["loss"].backward()
        return losses

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; "loss" is the one that is minimised, the others are logged."""
        raise NotImplementedError
