"""Training of a U-Net or a Mask R-CNN on images with masks.

Whole groups are set aside for the test, and others to stop early on; the test part is predicted once, at the end, by
`usbackbones.segmentation.run`, and nothing about it reaches a choice.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from usbackbones.data.item import PARTS
from usbackbones.features.ahead import loaded
from usbackbones.features.precision import computes_in_bf16
from usbackbones.finetuning.trainer import Trainer
from usbackbones.metrics.segmentation import dice
from usbackbones.segmentation.config import Segment, blueprint, build, optimizer_of
from usbackbones.segmentation.losses import classes_of, detections, foreground, loss_of, network_input
from usbackbones.segmentation.masked import Masked, frame_of, truth_of
from usbackbones.segmentation.models import pyramid_of, train_mode


class Segmenter(Trainer):
    """One training run.

    Images wait at the training size in a nameless file that the system maps and drops as it needs memory: two bytes
    a pixel. Masks of the test part are not read here at all.

    Args:
        name: of the backbone, see `usbackbones.build_backbone`.
        items: with a part each, see `dataset.split_items`.
        spec: how.
        folder: of the run; None keeps no checkpoint.
        progress: show bars.
    """

    def __init__(self, name: str, items: Sequence[Masked], spec: Segment, folder: Path | None, progress: bool) -> None:
        from tqdm import tqdm

        self.name, self.items, self.spec = name, list(items), spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # channels_last is what convolutions are fastest in: a tenth to a fifth of a step on CPUs.
        model = build(name, spec).to(self.device).to(memory_format=torch.channels_last)
        self.blueprint = blueprint(pyramid_of(model).network)
        self.of = {part: np.array([i for i, item in enumerate(items) if item.part == part]) for part in PARTS}
        kinds = (np.uint8, np.uint8 if len(spec.classes) > 1 else np.bool_)
        self.images, self.masks = (_on_disk((len(items), spec.size, spec.size), kind) for kind in kinds)
        side = (spec.size, spec.size)
        for number, item in enumerate(tqdm(self.items, "reading", unit="image", disable=not progress)):
            frame = frame_of(item)
            self.images[number] = np.asarray(Image.fromarray(frame).resize(side, Image.Resampling.BILINEAR))
            if item.part != "test":
                self.masks[number] = resized(truth_of(item, (frame.shape[0], frame.shape[1])), spec.size)
        # Detection heads compute coordinates, for which bf16 is too coarse.
        self.bf16 = spec.head == "unet" and computes_in_bf16(self.device)
        super().__init__(
            model,
            *optimizer_of(model, spec),
            epochs=spec.epochs,
            patience=spec.patience if spec.keep == "best" else None,
            keep=spec.keep,
            seed=spec.seed,
            folder=folder,
            progress=progress,
        )

    def settings(self) -> Mapping[str, Any]:
        """Backbone, settings and items."""
        return {"model": self.name, "spec": asdict(self.spec), "items": [str(item) for item in self.items]}

    def begin_epoch(self) -> None:
        """Train mode for all but frozen batch norms."""
        train_mode(self.model)

    def batches(self) -> list[np.ndarray]:
        """All training images in random order; a single last image joins the batch before it, for the batch norms."""
        order = self.rng.permutation(self.of["train"])
        return np.split(order, range(self.spec.batch, len(order) - 1, self.spec.batch))

    def read(self, batch: np.ndarray) -> tuple[Tensor, ...]:
        """Images uint8 [N, S, S] and their masks [N, S, S]."""
        return torch.from_numpy(self.images[batch]), torch.from_numpy(self.masks[batch])

    def loss(self, batch: np.ndarray, *tensors: Tensor) -> Tensor:
        """The loss of some training images, each flipped or not."""
        gray, masks = tensors
        images = network_input(self.model, gray)
        flipped = torch.from_numpy(self.rng.random(len(batch)) < 0.5).to(self.device)
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        masks = torch.where(flipped[:, None, None], masks.flip(2), masks)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return loss_of(self.model, images, masks)

    def validate(self) -> float | None:
        """Mean Dice of the validation part."""
        return self.score("validation") if len(self.of["validation"]) else None

    def score(self, part: str) -> float:
        """Mean Dice at the training size of a part that is not the test part, over images and classes."""
        pairs = zip(self.predict(part), self.of[part], strict=True)
        return float(np.mean([dice_by_class(at_size(p), self.masks[i], len(self.spec.classes)) for p, i in pairs]))

    @torch.inference_mode()
    def predict(self, part: str) -> Iterator[np.ndarray]:
        """Probabilities of the images of a part, one by one, as `at_size` takes them."""
        probabilities = classes_of if len(self.spec.classes) > 1 else foreground
        self.model.eval()
        for images in self._inputs(self.of[part]):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                yield from probabilities(self.model, images).cpu().numpy()

    @torch.inference_mode()
    def detect(self, part: str) -> Iterator[dict[str, Tensor]]:
        """What a Mask R-CNN finds at the training size in the images of a part, one by one."""
        self.model.eval()
        for images in self._inputs(self.of[part]):
            yield from detections(self.model, images)

    def _inputs(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Images as the network takes them, float [N, C, S, S], a batch at a time."""
        batches = (rows[start : start + self.spec.batch] for start in range(0, len(rows), self.spec.batch))
        for _, (gray,) in loaded(batches, lambda batch: (torch.from_numpy(self.images[batch]),), self.device):
            yield network_input(self.model, gray)


def at_size(probability: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The class of each pixel, at the size of an image by PIL's bilinear, as the way down was.

    Args:
        probability: float [S, S] of the foreground, or [1 + C, S, S] with the background first.
        shape: (rows, columns) of the image; None leaves the size.

    Returns:
        bool [H, W] of one class, uint8 [H, W] of several.
    """
    channels = probability[None] if probability.ndim == 2 else probability
    if shape:
        size = (shape[1], shape[0])
        resized_channels = (Image.fromarray(one).resize(size, Image.Resampling.BILINEAR) for one in channels)
        channels = np.stack([np.asarray(one) for one in resized_channels])
    return channels[0] > 0.5 if probability.ndim == 2 else channels.argmax(0).astype(np.uint8)


def dice_by_class(found: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    """The Dice of each class of labels [H, W]."""
    return [dice(found == number, truth == number) for number in range(1, classes + 1)]


def resized(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask, [H, W], at the training size: [size, size]."""
    return np.array(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _on_disk(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Zeros in a temporary file, which is gone when the array is."""
    with TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a disk that is full says so here, and not by killing the process later
            os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape)))
        return np.memmap(file, dtype, "w+", shape=shape)
