"""The steps of fine-tuning: AdamW with a rate for each layer, which falls from layer to layer or is learned."""

from collections.abc import Callable
from typing import Literal

import timm.optim
import timm.scheduler
import torch
from torch import Tensor, nn

from usbackbones.finetuning.metalr import MetaLR, groups_of_layers, learn_rates, rate_gradients


class Steps:
    """AdamW over the layers of a model.

    Args:
        model: a timm model.
        rates: "decay" or "metalr", see `usbackbones.finetuning.trainer.FineTune`.
        lr: of the classifier at its peak; with "metalr" of every layer at first, as far as it allows.
        layer_decay: each layer below learns at this times the rate of the one above; for "decay".
        weight_decay: on all but norms and biases.
        epochs: over which a cosine takes the rates to zero; for "decay".
    """

    def __init__(
        self,
        model: nn.Module,
        rates: Literal["decay", "metalr"],
        lr: float,
        layer_decay: float,
        weight_decay: float,
        epochs: int,
    ) -> None:
        self.learned = rates == "metalr"
        self.layers = groups_of_layers(model) if self.learned else []
        self.optimiser: torch.optim.Optimizer
        if self.learned:
            groups = [{"params": layer, "lr": min(lr, MetaLR().highest)} for layer in self.layers]
            self.optimiser = torch.optim.AdamW(groups, weight_decay=weight_decay)
        else:
            self.optimiser = timm.optim.create_optimizer_v2(
                model, opt="adamw", lr=lr, weight_decay=weight_decay, layer_decay=layer_decay
            )
        self.schedule = timm.scheduler.CosineLRScheduler(self.optimiser, t_initial=epochs)

    @property
    def rates(self) -> list[float]:
        """The rate of each group of parameters."""
        return [group["lr"] for group in self.optimiser.param_groups]

    def begin(self, epoch: int) -> None:
        """Set the rates of an epoch, counted from 0."""
        if not self.learned:
            self.schedule.step(epoch)

    def take(self, loss: Callable[[], Tensor], other: Callable[[], Tensor] | None) -> None:
        """A step on a loss.

        Args:
            loss: of a batch.
            other: of another batch, on which rates are learned; None leaves them.
        """
        self.optimiser.zero_grad()
        if self.learned and other is not None:
            self._learn_rates(loss, other)
        else:
            loss().backward()
        self.optimiser.step()

    def _learn_rates(self, loss: Callable[[], Tensor], other: Callable[[], Tensor]) -> None:
        """The gradients of a step, and the rates of the layers that learn."""
        live = [(i, layer) for i, layer in enumerate(self.layers) if any(p.requires_grad for p in layer)]
        layers = [[p for p in layer if p.requires_grad] for _, layer in live]
        rates = [self.optimiser.param_groups[i]["lr"] for i, _ in live]
        slopes, gradients = rate_gradients(layers, rates, loss, other)
        for (i, _), rate in zip(live, learn_rates(rates, slopes, MetaLR()), strict=True):
            self.optimiser.param_groups[i]["lr"] = rate
        for layer, own in zip(layers, gradients, strict=True):
            for parameter, gradient in zip(layer, own, strict=True):
                parameter.grad = gradient
