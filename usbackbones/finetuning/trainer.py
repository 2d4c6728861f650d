"""Fine-tuning: a backbone and labelled clips -> a timm folder with a classifier, judged on groups it never saw.

    usbackbones finetune DATA --model resnet18.<tag> -o folder

Whole groups are set aside for the test, and others to stop early on; the test part is predicted once, at the end, and
nothing about it reaches a choice. The head learns alone first; then every layer, the lower the slower.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm.utils
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usbackbones._files import atomic_write
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.features.precision import computes_in_bf16
from usbackbones.features.transforms import Transform, transforms
from usbackbones.finetuning.optimizer import Steps
from usbackbones.hub.torch_checkpoint import CheckpointError, state_to_go_on_from, sum_of
from usbackbones.metrics.classification import scores

_RANGES = {
    "epochs": (1, 1e6), "head_epochs": (0, 1e6), "batch": (1, 1e6), "patience": (1, 1e6), "frames": (1, 1e6),
    "lr": (0, 1e3), "layer_decay": (0, 1), "weight_decay": (0, 1e3), "ema": (0, 1), "seed": (0, 1e18),
}  # fmt: skip


@dataclass(frozen=True)
class FineTune:
    """How to fine-tune.

    Attributes:
        epochs: most passes over the training items.
        head_epochs: of these, passes in which only the classifier learns.
        batch: items in a batch; each gives one frame, drawn anew in every epoch.
        lr: of the classifier, at its peak; a cosine ends it at zero.
        layer_decay: each layer below learns at this times the rate of the one above.
        rates: "decay" as above; "metalr" learns the rate of each layer on the way (see `metalr`).
        weight_decay: of AdamW, on all but norms and biases.
        freeze_norm: batch norms keep the statistics and weights of pretraining; small sets spoil them.
        ema: decay of the averaged weights that are judged and kept; 0 is off.
        patience: epochs without a better validation score before it stops.
        frames: most frames of a clip that are looked at, evenly spaced.
        seed: of the classifier, the order and the views.

    Raises:
        DataError: naming a setting that is out of its range.
    """

    epochs: int = 30
    head_epochs: int = 3
    batch: int = 32
    lr: float = 1e-3
    layer_decay: float = 0.7
    rates: Literal["decay", "metalr"] = "decay"
    weight_decay: float = 0.05
    freeze_norm: bool = True
    ema: float = 0.98
    patience: int = 8
    frames: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:  # NaN is in no range
                raise DataError(f"{name} is {getattr(self, name)}: give a number from {low} to {high:g}")
        if self.rates not in ("decay", "metalr"):
            raise DataError(f"rates is {self.rates!r}: give decay or metalr")


class Tuner:
    """One fine-tuning run; resumes from `folder/checkpoint.pt` where that is of the same settings.

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
        torch.manual_seed(spec.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.items, self.classes, self.spec, self.folder, self.progress = items, list(classes), spec, folder, progress
        self.bf16 = computes_in_bf16(self.device)
        self.view, self.plain = transforms(model, train=True), transforms(model)
        self.frames = frames
        self.labels = np.array([self.classes.index(item.label) for item in items])
        seen = np.unique(self.frames.item)
        self.of = {
            part: np.array([i for i in seen if items[i].part == part]) for part in ("train", "validation", "test")
        }
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
        self.steps = Steps(model, spec.rates, spec.lr, spec.layer_decay, spec.weight_decay, spec.epochs)
        self.average = timm.utils.ModelEmaV3(model, decay=spec.ema, use_warmup=True) if spec.ema else None
        self.epoch, self.best, self.history = 0, -1.0, list[dict[str, Any]]()
        self.kept: dict[str, Tensor] = {}
        self.rng = np.random.default_rng(spec.seed)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.average.module if self.average else self.model

    def run(self) -> None:
        """Train to the end or until the validation score stops rising; the best weights are left in `model`."""
        self._resume()
        while self.epoch < self.spec.epochs and not self._is_tired():
            self._learn()
            score = self.score("validation")
            self.history[-1]["validation"] = score
            if score > self.best:
                self.best = score
                self.kept = {name: value.detach().clone() for name, value in self.judged.state_dict().items()}
            self.epoch += 1
            self._save()
        self.model.load_state_dict(self.kept)
        self.average = None  # the best weights are judged from here on, not the last average

    def _is_tired(self) -> bool:
        scores_so_far = [record["validation"] for record in self.history]
        return bool(scores_so_far) and len(scores_so_far) - 1 - int(np.argmax(scores_so_far)) >= self.spec.patience

    def _learn(self) -> None:
        """One pass over the training items."""
        from tqdm import tqdm

        self.model.train()
        only_head = self.epoch < self.spec.head_epochs
        for parameter in self.model.parameters():
            parameter.requires_grad = not only_head or id(parameter) in self.head
        if self.spec.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
                    module.requires_grad_(False)
        self.steps.begin(self.epoch)
        order = self.rng.permutation(self.of["train"])
        batches = [order[i : i + self.spec.batch] for i in range(0, len(order), self.spec.batch)]
        bar = tqdm(batches, f"epoch {self.epoch + 1}/{self.spec.epochs}", unit="batch", disable=not self.progress)
        losses: list[float] = []
        for batch in bar:
            other = self.rng.choice(self.of["train"], len(batch)) if self.steps.learned and not only_head else None
            self.steps.take(partial(self._loss, batch, losses), None if other is None else partial(self._loss, other))
            if self.average:
                self.average.update(self.model, step=self.epoch * len(batches) + len(losses) - 1)
            bar.set_postfix(loss=f"{np.mean(losses):.3f}", best=f"{max(self.best, 0):.3f}", refresh=False)
        self.history.append({"epoch": self.epoch, "loss": float(np.mean(losses)), "rates": self.steps.rates})

    def _loss(self, batch: np.ndarray, record: list[float] | None = None) -> Tensor:
        """Cross-entropy of one frame of each item, every class weighing the same; its value is added to the record."""
        chosen = [self.rng.choice(np.flatnonzero(self.frames.item == item)) for item in batch]
        logits = self._logits(self.model, chosen, self.view)
        loss = F.cross_entropy(
            logits, torch.from_numpy(self.labels[batch]).to(self.device), self.weight.to(self.device)
        )
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DataError(f"the loss is {value} in epoch {self.epoch + 1}: lower --lr (now {self.spec.lr})")
        if record is not None:
            record.append(value)
        return loss

    def _logits(self, network: nn.Module, rows: Sequence[int] | np.ndarray, view: Transform) -> Tensor:
        """float32 [N, C] of some frames, each through the transform."""
        images = torch.stack([view(self.frames[row]) for row in rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return network(images.contiguous(memory_format=torch.channels_last)).float()

    @torch.inference_mode()
    def predict(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows of `frames`, class probabilities [N, C]) of a part, by the judged network."""
        rows = np.flatnonzero(np.isin(self.frames.item, self.of[part]))
        self.judged.eval()
        found = []
        for start in range(0, len(rows), self.spec.batch):
            logits = self._logits(self.judged, rows[start : start + self.spec.batch], self.plain)
            found.append(logits.softmax(1).cpu().numpy())
        return rows, np.concatenate(found).astype(np.float64)

    def score(self, part: str) -> float:
        """Balanced accuracy of the items of a part."""
        rows, probability = self.predict(part)
        item = self.frames.item[rows]
        return scores(self.labels[item], probability, item, item)["clip"]["balanced_accuracy"]

    def _settings(self) -> str:
        told = {"spec": asdict(self.spec), "classes": self.classes, "items": [str(item) for item in self.items]}
        return json.dumps(told | self.begun_from, sort_keys=True)

    def _save(self) -> None:
        state = {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else {},
            "optimiser": self.steps.optimiser.state_dict(),
            "kept": self.kept,
            "progress": json.dumps([self.epoch, self.best, self.history, self.rng.bit_generator.state]),
            "generator": torch.get_rng_state(),
        }
        with atomic_write(self.folder / "checkpoint.pt") as stream:
            torch.save(state, stream)

    def _resume(self) -> None:
        try:
            state = state_to_go_on_from(self.folder / "checkpoint.pt", self._settings(), self.device)
        except CheckpointError as error:
            raise DataError(str(error)) from error
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.steps.optimiser.load_state_dict(state["optimiser"])
        self.kept = state["kept"]
        self.epoch, self.best, self.history, generator = json.loads(state["progress"])
        self.rng.bit_generator.state = generator
        torch.set_rng_state(state["generator"].cpu())
