"""The training loop of fine-tuning and segmentation: early stop, best weights, checkpoint, resume.

A subclass says what a batch is, what its loss is and how the validation part is scored; `Trainer.run` does the rest.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm.utils
import torch
from torch import Tensor, nn

from usbackbones._files import atomic_write
from usbackbones.data.item import DataError
from usbackbones.features.ahead import loaded
from usbackbones.hub.torch_checkpoint import CheckpointError, state_to_go_on_from

CHECKPOINT = "checkpoint.pt"


class Trainer(ABC):
    """One training run; resumes from `folder/checkpoint.pt` if its settings are the same, bit for bit.

    Attributes:
        device: of the model; a subclass sets it.
        model: trained in place; after `run` it has the weights to keep.
        epoch: epochs that are done.
        best: highest validation score so far.
        history: of each epoch "loss", "validation" if there is a validation part, and what `end_epoch` adds.
        rng: of the order, the views and all else that is drawn.

    Args:
        model: on its device.
        optimizer: of its parameters.
        schedule: sets the learning rates; called before each batch with the epochs done so far, a fraction.
        epochs: maximum number of passes over the training part.
        patience: epochs without a better validation score before the run stops; None never stops early.
        keep: weights to keep: "best" on the validation part, or "last".
        keep_start: the weights before the first epoch compete for "best" too.
        ema: decay of averaged weights, which are then the ones that are validated and kept; 0 is off.
        seed: of everything that is drawn.
        folder: of the checkpoint; None writes none.
        progress: show bars.
        title: before the number of the epoch in a bar.
    """

    device: torch.device

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[float], Any],
        *,
        epochs: int,
        patience: int | None,
        keep: Literal["best", "last"] = "best",
        keep_start: bool = False,
        ema: float = 0.0,
        seed: int = 0,
        folder: Path | None = None,
        progress: bool = True,
        title: str = "",
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.epochs, self.patience, self.seed = epochs, patience, seed
        self.keep, self.keep_start = keep, keep_start
        self.folder, self.progress, self.title = folder, progress, title
        self.average = timm.utils.ModelEmaV3(model, decay=ema, use_warmup=True) if ema else None
        self.epoch, self.best, self.history = 0, float("-inf"), list[dict[str, Any]]()
        self.kept: dict[str, Tensor] = {}
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All that the outcome depends on, for JSON; a checkpoint of other settings is refused."""

    @abstractmethod
    def batches(self) -> Sequence[np.ndarray]:
        """The training items of each batch of an epoch."""

    @abstractmethod
    def read(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """What `loss` takes of some training items, on the CPU; on a GPU it is called ahead, in a thread."""

    @abstractmethod
    def loss(self, batch: np.ndarray, *tensors: Tensor) -> Tensor:
        """The mean loss of some training items, from what `read` made, on the device."""

    @abstractmethod
    def validate(self) -> float | None:
        """The score of `evaluated` on the validation part, higher is better; None if there is no such part."""

    def begin_epoch(self) -> None:
        """Put the model in train mode."""
        self.model.train()

    def end_epoch(self) -> dict[str, Any]:
        """Entries of the history besides the loss and the score."""
        return {}

    def backward(self, batch: np.ndarray, *tensors: Tensor) -> float:
        """Fill the gradients of a batch; its loss."""
        loss = self.loss(batch, *tensors)
        value = self.finite(loss)
        self.optimizer.zero_grad()
        loss.backward()
        return value

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the model, or its averaged weights."""
        return self.average.module if self.average else self.model

    def run(self) -> None:
        """Train to the end, or until the validation score stops rising; `model` then has the weights to keep."""
        torch.manual_seed(self.seed)
        self._resume()
        if self.keep_start and not self.epoch:
            self._keep(self.validate())
        while self.epoch < self.epochs and not self._has_stopped_improving():
            record: dict[str, Any] = {"loss": self._train_epoch()} | self.end_epoch()
            score = self.validate()
            if score is not None:
                record["validation"] = score
            self.history.append(record)
            if self.keep == "last" or score is None or score > self.best:
                self._keep(score)
            self.epoch += 1
            self._save()
        if self.kept:
            self.model.load_state_dict(self.kept)
        self.average = None  # from here on the weights to keep are evaluated, not the last average

    def _keep(self, score: float | None) -> None:
        self.best = self.best if score is None else score
        self.kept = {name: value.detach().clone() for name, value in self.evaluated.state_dict().items()}

    def remove_checkpoint(self) -> None:
        """Remove the checkpoint of a run whose outputs are all written."""
        if self.folder is not None:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def _has_stopped_improving(self) -> bool:
        if self.patience is None or not self.history:
            return False
        scores = [record["validation"] for record in self.history]
        return len(scores) - 1 - int(np.argmax(scores)) >= self.patience

    def _train_epoch(self) -> float:
        """One pass over the training part; the mean loss."""
        from tqdm import tqdm

        self.begin_epoch()
        batches = self.batches()
        title = f"{self.title}epoch {self.epoch + 1}/{self.epochs}"
        losses: list[float] = []
        read = loaded(batches, self.read, self.device)
        bar = tqdm(read, title, len(batches), unit="batch", disable=not self.progress)
        for number, (batch, tensors) in enumerate(bar):
            self.schedule(self.epoch + number / len(batches))
            losses.append(self.backward(batch, *tensors))
            self.optimizer.step()
            if self.average:
                self.average.update(self.model, step=self.epoch * len(batches) + number)
            bar.set_postfix(loss=f"{np.mean(losses):.3f}", best=f"{self.best:.3f}", refresh=False)
        return float(np.mean(losses))

    def finite(self, loss: Tensor) -> float:
        """The value of a loss.

        Raises:
            DataError: if it is infinite or not a number.
        """
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DataError(f"the loss is {value} in epoch {self.epoch + 1}: lower --lr")
        return value

    def _settings(self) -> str:
        return json.dumps(self.settings(), sort_keys=True)

    def _save(self) -> None:
        if self.folder is None:
            return
        state = {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "kept": self.kept,
            "progress": json.dumps([self.epoch, self.best, self.history, self.rng.bit_generator.state]),
            "generator": torch.get_rng_state(),
        }
        with atomic_write(self.folder / CHECKPOINT) as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:  # torch closes its archive on a full disk, and fails again
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

    def _resume(self) -> None:
        if self.folder is None:
            return
        device = next(self.model.parameters()).device
        try:
            state = state_to_go_on_from(self.folder / CHECKPOINT, self._settings(), device)
        except CheckpointError as error:
            raise DataError(str(error)) from error
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kept = state["kept"]
        self.epoch, self.best, self.history, generator = json.loads(state["progress"])
        self.rng.bit_generator.state = generator
        torch.set_rng_state(state["generator"].cpu())
