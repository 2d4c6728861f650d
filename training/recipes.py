"""Every run is a frozen `Recipe`; the named ones are in `RECIPES`; the command line can override every field."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from training.data import augment
from training.data.augment import Augment
from training.methods.awcl import AWCL
from training.methods.clip_pair import ClipPair
from training.methods.hico import HiCo
from training.methods.ivpp import IVPP
from training.methods.meta_uscl import MetaUSCL
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL

Method = USCL | MetaUSCL | HiCo | AWCL | SimCLR | ClipPair | IVPP


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

    method: Method
    arch: str = "resnet18"
    augment: Augment = field(default_factory=Augment)
    mean: float = 0.5
    std: float = 0.25
    batch: int = 48
    steps: int = 300
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


_DEFAULT = Recipe(method=USCL())
_RELEASED = {
    "uscl": Recipe(
        method=USCL(lam="shared", classify="projection"),
        augment=augment.USCL,
        batch=32,
        steps=8100,
        optimiser="adam",
        lr=3e-4,
        weight_decay=1e-4,
        decay_all=True,
        warmup=11 / 300,
        hold=True,
        validation=0.2,
    ),
    "meta_uscl": Recipe(
        method=MetaUSCL(meta_frame="first", features="attached", symmetric=False),
        augment=augment.META_USCL,
        mean=0.18,
        std=0.24,
        batch=32,
        steps=8100,
        optimiser="momentum",
        lr=0.1,
        weight_decay=1e-4,
        decay_all=True,
        warmup=10 / 300,  # the authors' rise is exponential, ours linear
        validation=0.2,
    ),
    "awcl": Recipe(
        method=AWCL(switch="batch", base_temperature=0.07),
        augment=augment.AWCL,
        mean=0.449,  # ImageNet's, averaged over the three channels, since ours are alike
        std=0.226,
        batch=32,
        optimiser="adam",
        weight_decay=1e-6,
        decay_all=True,
        warmup=1.0,  # held for the whole run: the rate is constant
        hold=True,
    ),
}
_RELEASED["hico"] = replace(
    _RELEASED["uscl"],
    method=HiCo(
        lam="shared",
        cross_views="within",
        medium="p3",
        top="p5",
        classify="gap",
        soften="hico_batch",
        heads="flatten",
        pyramid_width=256,
    ),
)


def _with(method: Method, **changes: Any) -> Recipe:
    return replace(_DEFAULT, method=method, **changes)


RECIPES: dict[str, tuple[str, Recipe]] = {
    "uscl": ("interpolated pairs of a clip and its weak label, released faults mended", _DEFAULT),
    "uscl-released": ("the same as the authors' code has it, 300 epochs of US-4", _RELEASED["uscl"]),
    "meta_uscl": ("pairs interpolated in the order of time that learn how much they count", _with(MetaUSCL())),
    "meta_uscl-released": ("the same with the authors' options, at 64 px", _RELEASED["meta_uscl"]),
    "hico": ("USCL's pairs contrasted at three levels and across them, softened labels", _with(HiCo())),
    "hico-released": ("the same as the authors' code has it, 273 M of flatten heads", _RELEASED["hico"]),
    "awcl": ("frames of one anatomy attract, where it is known", _with(AWCL())),
    "awcl-released": ("the same as the authors' code has it", _RELEASED["awcl"]),
    "simclr": ("control: two views of one frame", _with(SimCLR())),
    "clip_pair": ("control: two frames of a clip, not mixed", _with(ClipPair())),
    "ivpp": (
        "neighbour: two frames close in time, the closer the heavier",
        _with(IVPP(), augment=replace(augment.IVPP, size=96)),
    ),
    "uscl-ultrasound": (
        "USCL with augmentations that know the beam: depth, speckle, smoothing, contrast",
        replace(_DEFAULT, augment=replace(augment.ULTRASOUND, size=96)),
    ),
    "smoke": (
        "a minute of USCL at 64 px, to see that it works",
        replace(_DEFAULT, augment=Augment(size=64), steps=40),
    ),
}
