"""Every run is a frozen `Recipe`; the named ones are in `RECIPES`; the command line can override every field."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from training.data.augment import Augment
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL


@dataclass(frozen=True)
class Recipe:
    """All that decides a pretraining run, given a corpus.

    Attributes:
        method: what is learned, and how a clip becomes views.
        arch: timm's name of the backbone, e.g. resnet18 or vit_tiny_patch16_224.
        augment: one frame -> one view; its size is the network's input size in pixels.
        mean: gray mean on the 0..1 scale, one number for all channels.
        std: gray standard deviation on the 0..1 scale.
        batch: clips in a batch; each gives one pair of views. Fewer clips in the corpus make a smaller batch.
        steps: optimiser steps.
        optimiser: a name that timm.optim knows, e.g. adamw, sgd, lars. "adam" adds weight decay to the gradient.
        lr: peak learning rate.
        weight_decay: on all parameters but norms and biases; on those too where decay_all is set.
        decay_all: see weight_decay; the original codes do.
        warmup: share of the steps with a rising (or, if hold, a constant) rate before the cosine.
        hold: keep the peak rate during the warm-up, as the original USCL does.
        clip_gradient: largest norm of the gradient; 0 is off.
        precision: "auto" is bf16 autocast where the hardware computes in it, else fp32.
        validation: share of the groups, stratified by label, kept out to watch the loss on fixed views; 0 is none.
        seed: of weights, sampling and views.
    """

    method: USCL | SimCLR
    arch: str = "resnet18"
    augment: Augment = field(default_factory=Augment)
    mean: float = 0.5
    std: float = 0.25
    batch: int = 48
    steps: int = 1200
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    decay_all: bool = False
    warmup: float = 0.05
    hold: bool = False
    clip_gradient: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validation: float = 0.0
    seed: int = 0

    def model_args(self) -> dict[str, Any]:
        """What timm.create_model needs besides the name for this backbone to be built again."""
        if self.arch.startswith("vit"):
            return {"global_pool": "avg", "img_size": self.augment.size}
        return {}


_USCL = Recipe(method=USCL())
_USCL_RELEASED = Recipe(
    method=USCL(lam="shared", classify="projection"),
    augment=Augment(size=224),
    batch=32,
    steps=8100,
    optimiser="adam",
    lr=3e-4,
    weight_decay=1e-4,
    decay_all=True,
    warmup=11 / 300,
    hold=True,
    validation=0.2,
)

PAPERS = {
    "uscl": {"title": "USCL (Chen et al., MICCAI 2021)", "url": "https://arxiv.org/abs/2011.13066"},
    "simclr": {"title": "SimCLR (Chen et al., ICML 2020)", "url": "https://arxiv.org/abs/2002.05709"},
}

RECIPES: dict[str, tuple[str, Recipe]] = {
    "uscl": ("USCL with its released faults mended", _USCL),
    "uscl-released": ("USCL as the authors' code has it, 300 epochs of US-4", _USCL_RELEASED),
    "simclr": ("control: two views of one frame", replace(_USCL, method=SimCLR())),
    "smoke": (
        "a minute of USCL at 64 px, to see that all works",
        replace(_USCL, augment=Augment(size=64), steps=40),
    ),
}
