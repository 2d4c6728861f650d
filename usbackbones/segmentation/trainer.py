"""Training a segmenter: a backbone and pictures with masks -> a U-Net or a Mask R-CNN.

Whole groups are set aside for the test, and others to stop early on; the test part is predicted once, at the end, by
`usbackbones.segmentation.run`, and nothing about it reaches a choice.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import timm.optim
import timm.scheduler
import torch
from PIL import Image
from torch import Tensor

from usbackbones._files import atomic_write
from usbackbones.data.item import PARTS, DataError
from usbackbones.features.precision import computes_in_bf16
from usbackbones.hub.torch_checkpoint import CheckpointError, state_to_go_on_from
from usbackbones.metrics.segmentation import dice
from usbackbones.segmentation.config import Segment, blueprint, build, parameter_groups
from usbackbones.segmentation.dataset import Masked, frame_of, mask_of
from usbackbones.segmentation.losses import detections, foreground, loss_of
from usbackbones.segmentation.models import pyramid_of, train_mode


class Segmenter:
    """One training run; resumes from `folder/checkpoint.pt` where that is of the same settings.

    Pictures wait at the training size in a nameless file that the system maps and drops as it needs memory: two bytes
    a pixel. Masks of the test part are not read here at all.

    Args:
        name: of the backbone, see `usbackbones.segmentation.feature_maps.backbone`.
        items: with a part each, see `dataset.split_items`.
        spec: how.
        folder: of the run; None keeps no checkpoint.
        progress: show bars.
    """

    def __init__(self, name: str, items: Sequence[Masked], spec: Segment, folder: Path | None, progress: bool) -> None:
        from tqdm import tqdm

        self.name, self.items, self.spec, self.folder, self.progress = name, list(items), spec, folder, progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = build(name, spec).to(self.device)
        self.blueprint = blueprint(name, pyramid_of(self.model).network)
        self.of = {part: np.array([i for i, item in enumerate(items) if item.part == part]) for part in PARTS}
        self.images, self.masks = (_on_disk((len(items), spec.size, spec.size), kind) for kind in (np.uint8, np.bool_))
        side = (spec.size, spec.size)
        for number, item in enumerate(tqdm(self.items, "reading", unit="picture", disable=not progress)):
            frame = frame_of(item)
            self.images[number] = np.asarray(Image.fromarray(frame).resize(side, Image.Resampling.BILINEAR))
            if item.part != "test":
                self.masks[number] = resized(mask_of(item, (frame.shape[0], frame.shape[1])), spec.size)
        # Detection heads compute coordinates, for which bf16 is too coarse.
        self.bf16 = spec.head == "unet" and computes_in_bf16(self.device)
        self.optimiser = timm.optim.create_optimizer_v2(
            parameter_groups(self.model, spec),
            opt=spec.optimiser,
            lr=spec.lr,
            weight_decay=spec.weight_decay,
            momentum=0.9,
        )
        self.schedule: timm.scheduler.scheduler.Scheduler
        if spec.schedule == "cosine":
            self.schedule = timm.scheduler.CosineLRScheduler(self.optimiser, t_initial=spec.epochs)
        else:
            self.schedule = timm.scheduler.StepLRScheduler(
                self.optimiser, decay_t=10, decay_rate=0.1, warmup_t=1, warmup_lr_init=spec.lr / 1000
            )
        self.epoch, self.best, self.history = 0, -1.0, list[dict[str, float]]()
        self.kept: dict[str, Tensor] = {}
        self.rng = np.random.default_rng(spec.seed)

    def run(self) -> None:
        """Train to the end or until the validation Dice stops rising; the weights to keep are left in `model`."""
        self._resume()
        while self.epoch < self.spec.epochs and not self._is_tired():
            record = {"loss": self._learn()}
            if len(self.of["validation"]):
                record["validation"] = self.score("validation")
            self.history.append(record)
            if self.spec.keep == "last" or record["validation"] > self.best:
                self.best = record.get("validation", self.best)
                self.kept = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.epoch += 1
            self._save()
        if self.kept:
            self.model.load_state_dict(self.kept)

    def score(self, part: str) -> float:
        """Mean Dice at the training size of a part that is not the test part."""
        found = self.predict(part)
        return float(np.mean([dice(p > 0.5, self.masks[i]) for p, i in zip(found, self.of[part], strict=True)]))

    @torch.inference_mode()
    def predict(self, part: str) -> Iterator[np.ndarray]:
        """How probable each pixel is foreground, float32 [size, size], of the pictures of a part, one by one."""
        self.model.eval()
        for start in range(0, len(self.of[part]), self.spec.batch):
            images = self._batch(self.of[part][start : start + self.spec.batch])
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                yield from foreground(self.model, images).cpu().numpy()

    @torch.inference_mode()
    def detect(self, part: str) -> Iterator[dict[str, Tensor]]:
        """What a Mask R-CNN finds at the training size in the pictures of a part, one by one."""
        self.model.eval()
        for start in range(0, len(self.of[part]), self.spec.batch):
            yield from detections(self.model, self._batch(self.of[part][start : start + self.spec.batch]))

    def _batch(self, rows: np.ndarray) -> Tensor:
        """Pictures as the network takes them, float [N, C, S, S], 0..1."""
        images = torch.from_numpy(self.images[rows]).to(self.device)[:, None].float() / 255
        return images.expand(-1, self.spec.in_chans, -1, -1).contiguous()

    def _learn(self) -> float:
        """One pass over the training pictures, each flipped or not; the mean loss."""
        from tqdm import tqdm

        train_mode(self.model)
        order = self.rng.permutation(self.of["train"])
        # A last picture joins the batch before it: batch norms can make nothing of one alone.
        batches = np.split(order, range(self.spec.batch, len(order) - 1, self.spec.batch))
        told = f"epoch {self.epoch + 1}/{self.spec.epochs}"
        losses = []
        for number, rows in enumerate(tqdm(batches, told, unit="batch", disable=not self.progress)):
            now: Any = self.epoch + number / len(batches)  # timm types whole epochs, and computes with parts of them
            self.schedule.step(now)
            images, masks = self._batch(rows), torch.from_numpy(self.masks[rows]).to(self.device)
            flipped = torch.from_numpy(self.rng.random(len(rows)) < 0.5).to(self.device)
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
            masks = torch.where(flipped[:, None, None], masks.flip(2), masks)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = loss_of(self.model, images, masks)
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise DataError(f"the loss is {losses[-1]} in epoch {self.epoch + 1}: lower --lr (now {self.spec.lr})")
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        return float(np.mean(losses))

    def _is_tired(self) -> bool:
        if self.spec.keep == "last":
            return False
        scores = [record["validation"] for record in self.history]
        return bool(scores) and len(scores) - 1 - int(np.argmax(scores)) >= self.spec.patience

    def _settings(self) -> str:
        told = {"model": self.name, "spec": asdict(self.spec), "items": [str(item) for item in self.items]}
        return json.dumps(told, sort_keys=True)

    def _save(self) -> None:
        if self.folder is None:
            return
        state = {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "kept": self.kept,
            "progress": json.dumps([self.epoch, self.best, self.history, self.rng.bit_generator.state]),
            "generator": torch.get_rng_state(),
        }
        with atomic_write(self.folder / "checkpoint.pt") as stream:
            torch.save(state, stream)

    def _resume(self) -> None:
        torch.manual_seed(self.spec.seed)
        if self.folder is None:
            return
        try:
            state = state_to_go_on_from(self.folder / "checkpoint.pt", self._settings(), self.device)
        except CheckpointError as error:
            raise DataError(str(error)) from error
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.kept = state["kept"]
        self.epoch, self.best, self.history, generator = json.loads(state["progress"])
        self.rng.bit_generator.state = generator
        torch.set_rng_state(state["generator"].cpu())


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask, bool [H, W], at the training size: bool [size, size]."""
    return np.array(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _on_disk(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Zeros in a temporary file, which is gone when the array is."""
    with TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
