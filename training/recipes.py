"""Every run is a frozen `Recipe`; the named ones are in `RECIPES`; the command line can override every field."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from training.data.batches.sampling import Draw
from training.data.views import augment
from training.data.views.augment import Augment
from training.errors import TrainingError
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
        init: the weight at which the backbone begins: one of timm's (resnet18.tv_in1k, hf-hub:OWNER/NAME), of ours
            (usbackbones/resnet18.uscl_open3) or of a folder (local-dir:FOLDER), of the same architecture. Empty is
            random. Its mean and std are not taken over.
        augment: one frame -> one view; its size is the side of the views in pixels.
        input_size: side in pixels of the frames that the released network is to be given; 0 is that of the views. A
            network that saw parts of frames enlarged to a view reads whole frames better when they are larger too.
        mean: gray mean on the 0..1 scale, one number for all channels.
        std: gray standard deviation on the 0..1 scale.
        draw: how often each clip comes: "even", or "frames", by the square root of its number of frames.
        batch: clips in a batch; each gives one pair of views. Fewer clips in the corpus make a smaller batch.
        steps: optimiser steps.
        optimiser: a name that timm.optim knows, e.g. adamw, sgd, lars. "adam" adds weight decay to the gradient.
        lr: peak learning rate.
        weight_decay: on all parameters but norms and biases.
        decay_all: on norms and biases too, as in the original codes.
        warmup: share of the steps with a rising (or, if hold, a constant) rate before the cosine.
        hold: keep the peak rate during the warm-up, as the original USCL does.
        clip_gradient: largest norm of the gradient; 0 is off.
        precision: "auto" is bf16 autocast where the hardware computes in it, else fp32.
        validation: share of the groups, stratified by label, kept out to watch the loss on fixed views; 0 is none.
        seed: of weights, sampling and views.
        layer_decay: factor of the learning rate from one layer of the backbone to the one below it; 1 is off.
        ema: decay of a moving average of the backbone, which is then what is released; 0 is off.
        accumulate: pieces in which a batch passes the backbone, to save memory; see `training.engine.grad_cache`.
        checkpoint_blocks: keep only the inputs of the backbone's blocks, and compute the rest again in the backward
            pass: less memory, a third more time.
        sync_batchnorm: normalise by the statistics of all processes; see `training.nn.sync_batchnorm`.
        compile: compile the backbone on a GPU; a CPU gains nothing from it in training, and ignores it.
        stop_collapsed: end the run when the representation has collapsed, see `training.engine.collapse`.
    """

    method: Method
    arch: str = "resnet18"
    init: str = ""
    augment: Augment = field(default_factory=Augment)
    input_size: int = 0
    mean: float = 0.5
    std: float = 0.25
    draw: Draw = "even"
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
    layer_decay: float = 1.0
    ema: float = 0.0
    accumulate: int = 1
    checkpoint_blocks: bool = False
    sync_batchnorm: bool = False
    compile: bool = False
    stop_collapsed: bool = True

    def model_args(self) -> dict[str, Any]:
        """What timm.create_model needs besides the name for this backbone to be built again."""
        if self.arch.startswith("vit"):
            return {"global_pool": "avg", "img_size": self.augment.size}
        return {}


RETIRED: dict[str, dict[str, str]] = {
    "hico": {"pair": "mixed", "attract": "clip"},
    "awcl": {"pair": "frame"},
    "meta_uscl": {"contrast": "pairs"},
}
"""Options that runs of a method have recorded and that it no longer has, with the one value that is left of each."""

_DEFAULT = Recipe(method=USCL(), augment=Augment(area=(0.2, 1.0), brightness=0.4, contrast=0.4), draw="frames")
"""Small crops and a mild curve, which the study found to matter more than the method; see training/STUDY.md."""
_RELEASED = {
    "uscl": Recipe(
        method=USCL(lam="shared", classify="projection"),
        augment=augment.USCL,
        batch=32,
        steps=8100,  # 300 epochs of the 841 clips that US-4 has to train on
        optimiser="adam",
        lr=3e-4,
        weight_decay=1e-4,
        decay_all=True,
        warmup=11 / 300,
        hold=True,  # their cosine then has 289 of its 300 epochs to go and ends at 1e-6, ours at 0
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
        method=AWCL(switch="batch", base_temperature=0.07, tone_known=True),
        augment=augment.AWCL,
        mean=0.449,  # ImageNet's, averaged over the three channels, since ours are alike
        std=0.226,
        batch=32,  # 10 epochs of a corpus whose size is not known: set steps
        optimiser="adam",
        weight_decay=1e-6,
        decay_all=True,
        warmup=1.0,  # held for the whole run: the rate is constant
        hold=True,
    ),
}
_RELEASED["hico"] = replace(
    _RELEASED["uscl"],
    init="resnet18.tv_in1k",  # torchvision's ImageNet weight
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
"""The authors' code, but for what the loop does for all methods alike: a cosine ends at 0 (theirs at 1e-6), a rise is
linear (Meta-USCL's is exponential: half the peak after half of it, theirs a third), and Meta-USCL's meta clips are
taken from what `validation` leaves (theirs are the validation clips: 80 % of the groups to train on, here 64 %)."""


def _with(method: Method, **changes: Any) -> Recipe:
    return replace(_DEFAULT, method=method, **changes)


RECIPES: dict[str, tuple[str, Recipe]] = {
    "uscl": ("USCL: mixed pairs of a clip and its weak label, as the paper's figure has it", _DEFAULT),
    "uscl-released": ("USCL as the authors' code has it, at 224 px", _RELEASED["uscl"]),
    "meta_uscl": ("Meta-USCL: pairs interpolated in the order of time learn how much they count", _with(MetaUSCL())),
    "meta_uscl-released": ("Meta-USCL as the authors' code has it, at 64 px", _RELEASED["meta_uscl"]),
    "hico": ("HiCo: USCL's pairs contrasted at three levels and across them, softened labels", _with(HiCo())),
    "hico-released": ("HiCo as the authors' code has it: an ImageNet start, 273 M of heads", _RELEASED["hico"]),
    "awcl": ("AWCL: two views of a frame; frames of one anatomy attract, where it is known", _with(AWCL())),
    "awcl-released": ("AWCL as the authors' code has it, at 227 px", _RELEASED["awcl"]),
    "simclr": ("control, SimCLR: two views of one frame", _with(SimCLR())),
    "clip_pair": ("control: two frames of a clip, not mixed", _with(ClipPair())),
    "ivpp": (
        "neighbour, IVPP: two frames close in time, the closer the heavier",
        _with(IVPP(), augment=replace(augment.IVPP, size=96)),
    ),
    "uscl-ultrasound": (
        "USCL with augmentations that know the beam: depth, speckle, smoothing, contrast",
        replace(_DEFAULT, augment=replace(augment.ULTRASOUND, size=96)),
    ),
    "smoke": (
        "a minute of USCL at 64 px, to see that it works",
        replace(_DEFAULT, augment=replace(_DEFAULT.augment, size=64), steps=40),
    ),
}


def recorded(kind: Any, values: Mapping[str, Any], where: str = "recipe") -> Any:
    """A dataclass from what was recorded of it; later fields have their default, `RETIRED` ones are left out.

    Args:
        kind: the dataclass, or a union of such, of which the one whose `name` was recorded is taken.
        values: as `training.engine.run_folder.describe_recipe` wrote them.
        where: for messages.

    Raises:
        TrainingError: if something was recorded that this version does not know, or lacks a value.
    """
    if isinstance(kind, types.UnionType):
        by_name = {one.name: one for one in typing.get_args(kind)}
        if values.get("name") not in by_name:
            raise TrainingError(
                f"{where}: this version has no method {values.get('name')!r}, only {', '.join(by_name)}"
            )
        kind = by_name[values["name"]]
    told = {key: value for key, value in values.items() if key not in ("name", "paper", "recipe", "model_args")}
    for key, only in RETIRED.get(values.get("name", ""), {}).items():
        if told.get(key) == only:
            del told[key]
    known = {one.name: one for one in fields(kind)}
    hints = typing.get_type_hints(kind)
    strange = sorted(told.keys() - known.keys())
    absent = sorted(
        name
        for name, one in known.items()
        if name not in told and one.default is MISSING and one.default_factory is MISSING
    )
    if strange or absent:
        raise TrainingError(
            f"{where}: this version does not know {', '.join(strange) or 'nothing that is there'} and misses "
            f"{', '.join(absent) or 'nothing'}: take the version of this code that the entry's environment names"
        )
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in told.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType) and all(is_dataclass(one) for one in typing.get_args(hint)):
        return recorded(hint, value, where)
    if is_dataclass(hint):
        return recorded(hint, value, where)
    return tuple(value) if isinstance(value, list) else value
