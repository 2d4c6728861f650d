"""Fine-tuning of a network on frames of labelled clips, for classes or for a number.

Whole groups are set aside for the test, and others to stop early on; the test part is predicted at the end, and nothing
about it reaches a choice. Every layer learns, the lower the slower; a head that starts at random learns alone first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usbackbones._words import plural
from usbackbones.data.frames import Frames
from usbackbones.data.item import PARTS, DataError, Item
from usbackbones.data.patients import levels
from usbackbones.features.ahead import loaded
from usbackbones.features.precision import computes_in_bf16
from usbackbones.features.transforms import Transform, transforms
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.gain import ENOUGH_GROUPS, Gain, fewest_groups, gain
from usbackbones.finetuning.metalr import MetaLR, backward_and_learn_rates
from usbackbones.finetuning.optimizer import layerwise_adamw
from usbackbones.finetuning.target import Numbers, Target
from usbackbones.finetuning.trainer import Trainer
from usbackbones.hub.torch_checkpoint import sum_of

_REMEDY = "more patients would tell, and --margin 0, with another -o, keeps what is fine-tuned, better or not"


class Tuner(Trainer):
    """One fine-tuning run.

    Args:
        model: with as many outputs as the target; trained in place.
        name: of the model that it was made from.
        items: with a part each, see `dataset.split_items`.
        target: of the items.
        spec: how.
        frames: of the items, in their order.
        folder: of the checkpoint; None writes none.
        progress: show bars.
        title: see `Trainer`.

    Attributes:
        gain: of the weights after training over the linear probe, on the validation part; None if it was not asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        items: Sequence[Item],
        target: Target,
        spec: FineTune,
        frames: Frames,
        folder: Path | None,
        progress: bool,
        title: str = "",
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = model.to(self.device).to(memory_format=torch.channels_last).requires_grad_(True)
        self.items, self.target, self.spec, self.frames = items, target, spec, frames
        self.bf16 = computes_in_bf16(self.device)
        self.view, self.plain = transforms(model, train=True), transforms(model)
        self.of = parts_of(items, frames, by_class=target.task == "classes")
        self.head = {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
        state = model.state_dict(keep_vars=True)
        backbone = {key: value for key, value in state.items() if id(value) not in self.head}
        self.gain: Gain | None = None
        self.begun_from = {"model": name, "weights": sum_of(backbone)}
        super().__init__(
            model,
            *layerwise_adamw(model, spec),
            epochs=spec.epochs,
            patience=spec.patience,
            keep_start=spec.start == "probe",
            ema=spec.ema,
            seed=spec.seed,
            folder=folder,
            progress=progress,
            title=title,
        )

    def settings(self) -> Mapping[str, Any]:
        """Settings, kind of target, items, and what the run began from."""
        items = [str(item) for item in self.items]
        return {"spec": asdict(self.spec), "task": self.target.task, "items": items} | self.begun_from

    def run(self) -> None:
        """Train; the tuned weights are kept, or the linear probe that they do not beat, see `gain`."""
        if not self._compares:
            return super().run()
        start = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        before, _, _ = self._losses()
        super().run()
        self.gain = gain(before, *self._losses())
        if self.probe_kept:
            self.model.load_state_dict(start)

    @property
    def cannot_tell(self) -> str:
        """A line where the validation part is too small for a comparison, so that the linear probe is kept."""
        validation = [self.items[number] for number in self.of["validation"]]
        fewest = fewest_groups(validation, by_class=self.target.task == "classes")
        if not self._compares or fewest >= ENOUGH_GROUPS:
            return ""
        return (
            f"the linear probe is kept: the validation part has {plural(fewest, 'group')}"
            f"{' of a class' * (self.target.task == 'classes')}, and {ENOUGH_GROUPS} are asked for to tell whether "
            f"fine-tuning is better; {_REMEDY}"
        )

    @property
    def probe_kept(self) -> str:
        """A line where the linear probe was kept after all, with the reason; else empty."""
        if self.gain is None or self.cannot_tell or self.gain.exceeds(self.spec.margin):
            return self.cannot_tell
        return (
            f"the linear probe is kept: fine-tuning lowers the mean loss of the validation part by {self.gain}, and "
            f"{self.spec.margin:g} standard errors are asked for; {_REMEDY}"
        )

    @property
    def _compares(self) -> bool:
        return self.spec.start == "probe" and self.spec.margin > 0

    @property
    def _only_head(self) -> bool:
        return self.spec.start == "random" and self.epoch < self.spec.head_epochs

    def begin_epoch(self) -> None:
        """Freeze what does not learn in this epoch."""
        self.model.train()
        for parameter in self.model.parameters():
            parameter.requires_grad = not self._only_head or id(parameter) in self.head
        if self.spec.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
                    module.requires_grad_(False)

    def end_epoch(self) -> dict[str, Any]:
        """The number of the epoch, from 0, and the learning rate of each group of parameters."""
        return {"epoch": self.epoch, "rates": [group["lr"] for group in self.optimizer.param_groups]}

    def batches(self) -> list[np.ndarray]:
        """All training items in random order."""
        order = self.rng.permutation(self.of["train"])
        return [order[i : i + self.spec.batch] for i in range(0, len(order), self.spec.batch)]

    @property
    def _learns_rates(self) -> bool:
        return self.spec.rates == "metalr" and not self._only_head

    def read(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """One random frame of each item; none where learning rates are learned, since these draw before."""
        return () if self._learns_rates else (self._drawn(batch),)

    def loss(self, batch: np.ndarray, *tensors: Tensor) -> Tensor:
        """The target's loss on the images of some items."""
        (images,) = tensors
        return self.target.loss(self._outputs(self.model, images, self.bf16), batch)

    def backward(self, batch: np.ndarray, *tensors: Tensor) -> float:
        """Fill the gradients of a batch and, where learning rates are learned, step these on another; the loss."""
        if not self._learns_rates:
            return super().backward(batch, *tensors)
        other = self.rng.choice(self.of["train"], len(batch))
        losses: list[float] = []

        def recorded(rows: np.ndarray) -> Tensor:
            loss = self.loss(rows, self._drawn(rows).to(self.device))
            losses.append(self.finite(loss))
            return loss

        self.optimizer.zero_grad()
        backward_and_learn_rates(self.optimizer, partial(recorded, batch), partial(recorded, other), MetaLR())
        return losses[0]

    def _drawn(self, batch: np.ndarray) -> Tensor:
        """Images [N, C, S, S], a random view of one random frame of each item."""
        chosen = [self.rng.choice(np.flatnonzero(self.frames.item == item)) for item in batch]
        return self._images(chosen, self.view)

    def _images(self, rows: Sequence[int] | np.ndarray, view: Transform) -> Tensor:
        return torch.stack([view(self.frames[row]) for row in rows])

    def _outputs(self, network: nn.Module, images: Tensor, bf16: bool) -> Tensor:
        """float32 [N, C] of images [N, C, S, S]."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return network(images.contiguous(memory_format=torch.channels_last)).float()

    @torch.inference_mode()
    def predict(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows of `frames`, predictions [N, C] of the target) of a part, by the evaluated network."""
        rows = np.flatnonzero(np.isin(self.frames.item, self.of[part]))
        self.evaluated.eval()
        bf16 = self.bf16 and self.target.task == "classes"  # a number of hundreds has steps of two in bf16
        found, starts = [], range(0, len(rows), self.spec.batch)

        def read(start: int) -> tuple[Tensor]:
            return (self._images(rows[start : start + self.spec.batch], self.plain),)

        for _, (images,) in loaded(starts, read, self.device):
            outputs = self._outputs(self.evaluated, images, bf16)
            found.append(self.target.prediction(outputs).cpu().numpy())
        return rows, np.concatenate(found).astype(np.float64)

    def _losses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Loss, share in the mean and group of each validation item."""
        rows, prediction = self.predict("validation")
        item, loss, share = self.target.losses(self.frames.item[rows], prediction)
        return loss, share, np.array([self.items[number].group for number in item])

    def validate(self) -> float:
        """The target's score on the validation part."""
        rows, prediction = self.predict("validation")
        return self.target.score(self.frames.item[rows], prediction)

    def metrics(self, part: str) -> Numbers:
        """All metrics of a part with intervals over groups; none by patient where nobody knows the patients."""
        rows, prediction = self.predict(part)
        item = self.frames.item[rows]
        groups = np.array([self.items[number].group for number in item])
        known = self.target.metrics(item, groups, prediction, self.spec.seed)
        return {level: known[level] for level in levels(self.items)}


def parts_of(items: Sequence[Item], frames: Frames, by_class: bool) -> dict[str, np.ndarray]:
    """Indices of the items of each part that could be read; with `by_class` every class must be in every part.

    Raises:
        DataError: if no clip, or none of a class, could be read in one of the parts.
    """
    seen = np.unique(frames.item)
    of = {part: np.array([i for i in seen if items[i].part == part], int) for part in PARTS}
    for part, members in of.items():
        classes = {item.label if by_class else "" for item in items}
        if lacking := classes - {items[i].label if by_class else "" for i in members}:
            first = "; ".join(frames.skipped[:1])
            raise DataError(
                f"no clip{' of ' * by_class}{', '.join(sorted(lacking))} could be read in the {part} part, "
                f"{len(frames.skipped)} were skipped: mend them or give more groups; the first: {first}"
            )
    return of
