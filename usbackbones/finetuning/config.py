"""Settings of fine-tuning."""

from dataclasses import dataclass
from typing import Literal

from usbackbones.data.item import DataError

_RANGES = {
    "epochs": (1, 1e6), "head_epochs": (0, 1e6), "batch": (1, 1e6), "patience": (1, 1e6), "frames": (1, 1e6),
    "lr": (0, 1e3), "layer_decay": (0, 1), "weight_decay": (0, 1e3), "ema": (0, 1),
    "margin": (0, 1e6),
    "seed": (0, 1e18),
}  # fmt: skip


@dataclass(frozen=True)
class FineTune:
    """How to fine-tune.

    Attributes:
        epochs: maximum number of passes over the training items.
        start: what the classifier starts from: "probe" is the linear probe on frozen features (Kumar et al., ICLR
            2022), "random" is a seeded random one.
        head_epochs: passes in which only a random classifier learns.
        batch: items in a batch; each gives one frame, drawn again in every epoch.
        lr: peak learning rate of the classifier, annealed to zero by a cosine schedule.
        search: choose the learning rate on the validation part, among lr, lr/3 and lr/10, by a run of three
            epochs each.
        layer_decay: each layer below learns at this times the learning rate of the one above, in a network of ten
            layers, as ResNet-18; it is scaled so that the lowest layer of a deeper one learns no more slowly.
        rates: "decay" as above; "metalr" learns the learning rate of each layer during training (see `metalr`).
        weight_decay: of AdamW, on all but norms and biases.
        freeze_norm: batch norms keep the statistics and weights of pretraining; small data sets spoil them.
        ema: decay of the averaged weights that are evaluated and kept; 0 is off.
        margin: standard errors by which the fine-tuned weights must beat the linear probe on the validation part, or
            the probe is kept, as it is where a class has few groups there (see `gain`); 0 keeps them without a
            comparison.
        patience: epochs without a better validation score before training stops.
        frames: maximum number of frames used of a clip, evenly spaced.
        seed: of the classifier, the order and the views.
        clean: cut clips to their sector and black text and calipers out; predict then does the same.

    Raises:
        DataError: naming a setting that is out of its range.
    """

    epochs: int = 30
    start: Literal["probe", "random"] = "probe"
    head_epochs: int = 3
    batch: int = 32
    lr: float = 1e-3
    search: bool = True
    layer_decay: float = 0.7
    rates: Literal["decay", "metalr"] = "decay"
    weight_decay: float = 0.05
    freeze_norm: bool = True
    ema: float = 0.98
    margin: float = 2.0
    patience: int = 8
    frames: int = 8
    seed: int = 0
    clean: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:  # NaN is in no range
                raise DataError(f"{name} is {getattr(self, name)}: give a number from {low} to {high:g}")
        if self.rates not in ("decay", "metalr"):
            raise DataError(f"rates is {self.rates!r}: give decay or metalr")
        if self.start not in ("probe", "random"):
            raise DataError(f"start is {self.start!r}: give probe or random")
