"""Fine-tuning of a classifier on frames of labelled clips.

Whole groups are set aside for the test, and others to stop early on; the test part is predicted once, at the end, and
nothing about it reaches a choice. The head learns alone first; then every layer, the lower the slower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usbackbones.data.frames import Frames
from usbackbones.data.item import PARTS, DataError, Item
from usbackbones.features.precision import computes_in_bf16
from usbackbones.features.transforms import Transform, transforms
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.metalr import MetaLR, backward_and_learn_rates
from usbackbones.finetuning.optimizer import layerwise_adamw
from usbackbones.finetuning.trainer import Trainer
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.metrics.classification import scores


class Tuner(Trainer):
    """One fine-tuning run.

    Args:
        model: made with as many classes as `classes`; trained in place.
        name: of the model that it was made from.
        items: with a part each, see `dataset.split_items`.
        classes: names; a label is an index into them.
        spec: how.
        frames: of the items, in their order.
        folder: of the run.
        progress: show bars.

    Raises:
        DataError: if no clip of a class could be read in one of the parts.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        items: Sequence[Item],
        classes: Sequence[str],
        spec: FineTune,
        frames: Frames,
        folder: Path,
        progress: bool,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = model.to(self.device).to(memory_format=torch.channels_last)
        self.items, self.classes, self.spec, self.frames = items, list(classes), spec, frames
        self.bf16 = computes_in_bf16(self.device)
        self.view, self.plain = transforms(model, train=True), transforms(model)
        self.labels = np.array([self.classes.index(item.label) for item in items])
        seen = np.unique(self.frames.item)
        self.of = {part: np.array([i for i in seen if items[i].part == part]) for part in PARTS}
        for part, members in self.of.items():
            if lacking := set(classes) - {items[i].label for i in members}:
                raise DataError(
                    f"no clip of {', '.join(sorted(lacking))} could be read in the {part} part, {len(frames.skipped)} "
                    f"were skipped: mend them or give more groups; the first: {'; '.join(frames.skipped[:1])}"
                )
        count = np.bincount(self.labels[self.of["train"]], minlength=len(classes))
        self.weight = torch.tensor(count.sum() / (len(classes) * np.maximum(count, 1)), dtype=torch.float32)
        self.head = {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
        state = model.state_dict(keep_vars=True)
        backbone = {key: value for key, value in state.items() if id(value) not in self.head}
        self.begun_from = {"model": name, "weights": sum_of(backbone)}
        super().__init__(
            model,
            *layerwise_adamw(model, spec),
            epochs=spec.epochs,
            patience=spec.patience,
            ema=spec.ema,
            seed=spec.seed,
            folder=folder,
            progress=progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Settings, classes, items, and what the run began from."""
        items = [str(item) for item in self.items]
        return {"spec": asdict(self.spec), "classes": self.classes, "items": items} | self.begun_from

    @property
    def _only_head(self) -> bool:
        return self.epoch < self.spec.head_epochs

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

    def loss(self, batch: np.ndarray) -> Tensor:
        """Cross-entropy of one random frame of each item, weighted so that every class counts the same."""
        chosen = [self.rng.choice(np.flatnonzero(self.frames.item == item)) for item in batch]
        logits = self._logits(self.model, chosen, self.view)
        truth = torch.from_numpy(self.labels[batch]).to(self.device)
        return F.cross_entropy(logits, truth, self.weight.to(self.device))

    def backward(self, batch: np.ndarray) -> float:
        """Fill the gradients of a batch and, where learning rates are learned, step these on another; the loss."""
        if self.spec.rates != "metalr" or self._only_head:
            return super().backward(batch)
        other = self.rng.choice(self.of["train"], len(batch))
        losses: list[float] = []

        def recorded(rows: np.ndarray) -> Tensor:
            loss = self.loss(rows)
            losses.append(self.finite(loss))
            return loss

        self.optimizer.zero_grad()
        backward_and_learn_rates(self.optimizer, partial(recorded, batch), partial(recorded, other), MetaLR())
        return losses[0]

    def _logits(self, network: nn.Module, rows: Sequence[int] | np.ndarray, view: Transform) -> Tensor:
        """float32 [N, C] of some frames, each through the transform."""
        images = torch.stack([view(self.frames[row]) for row in rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return network(images.contiguous(memory_format=torch.channels_last)).float()

    @torch.inference_mode()
    def predict(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows of `frames`, class probabilities [N, C]) of a part, by the evaluated network."""
        rows = np.flatnonzero(np.isin(self.frames.item, self.of[part]))
        self.evaluated.eval()
        found = []
        for start in range(0, len(rows), self.spec.batch):
            logits = self._logits(self.evaluated, rows[start : start + self.spec.batch], self.plain)
            found.append(logits.softmax(1).cpu().numpy())
        return rows, np.concatenate(found).astype(np.float64)

    def validate(self) -> float:
        """Balanced accuracy of the items of the validation part."""
        rows, probability = self.predict("validation")
        item = self.frames.item[rows]
        return scores(self.labels[item], probability, item, item)["clip"]["balanced_accuracy"]
