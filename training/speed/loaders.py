"""Loaders side by side: ours from a cache, and those that people write or install, from JPEG files."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from training.data.batches.sampling import StepBatches
from training.data.cache import Cache
from training.data.views.augment import USCL, Augment
from training.methods.simclr import SimCLR
from training.methods.uscl import USCL as USCLPairs

GRAY = (0.5, 0.25)  # mean and std
LIGHTLY = Augment(  # lightly's SimCLR transform, less what does nothing to gray pictures
    area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), brightness=0.8, contrast=0.8, jitter=0.8, blur=2.0, blur_chance=0.5
)


class PlainUSCL(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """USCL's views as they are usually written: three JPEG files by PIL, torchvision's transform on each, two mixtures.

    Args:
        files: of each clip.
        size: of the views, pixels.
        length: clips that are drawn.
    """

    def __init__(self, files: Sequence[Sequence[Path]], size: int, length: int) -> None:
        self.files, self.length = files, length
        self.transform = v2.Compose(
            [
                v2.Resize((size, size)),
                v2.RandomResizedCrop(size, scale=(0.8, 1.0), ratio=(0.8, 1.25)),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.8, 0.8, 0.8, 0.2),
                *_to_tensor(),
            ]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        clip = number % len(self.files)
        chosen = np.random.default_rng(number).choice(len(self.files[clip]), 3, replace=False)
        first, middle, last = (self.transform(_opened(self.files[clip][index])) for index in chosen)
        share = float(np.random.default_rng(number).beta(0.5, 0.5))
        return share * first + (1 - share) * middle, share * last + (1 - share) * middle, clip % 3


class TwoViews(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Two views of one JPEG file, by a transform that gives one."""

    def __init__(self, files: Sequence[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = _opened(self.files[number])
        return self.transform(picture), self.transform(picture)


def solo_transform(size: int) -> Callable[[Image.Image], torch.Tensor]:
    """solo-learn's list for SimCLR, rewritten."""

    def blur(picture: Image.Image) -> Image.Image:
        return picture.filter(ImageFilter.GaussianBlur(float(np.random.default_rng().uniform(0.1, 2.0))))

    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.Lambda(blur)], p=0.5),
            v2.RandomHorizontalFlip(),
            *_to_tensor(),
        ]
    )


def ours(cache: Cache, size: int, batch: int, augment: Augment = USCL, pairs: Any = None) -> StepBatches:
    """Our batches of a cache, by default USCL's."""
    return StepBatches(
        cache,
        np.arange(len(cache.clips)),
        pairs or USCLPairs(),
        replace(augment, size=size),
        batch=batch,
        seed=0,
        mean=GRAY[0],
        std=GRAY[1],
        steps=1 << 30,
    )


def sides(cache: Cache, files: Sequence[Sequence[Path]], size: int, batch: int) -> dict[str, Callable[[], object]]:
    """What makes a batch, by name; all in this process, as a loader's worker would."""
    flat = [file for clip in files for file in clip]
    plain = _forever(DataLoader(PlainUSCL(files, size, 1 << 16), batch))
    racing: dict[str, Callable[[], object]] = {
        "ours, USCL": partial(next, _numbered(ours(cache, size, batch))),
        "plain PIL and torchvision, USCL": partial(next, plain),
        "ours, SimCLR with lightly's augmentation": partial(
            next, _numbered(ours(cache, size, batch, LIGHTLY, SimCLR()))
        ),
        "solo-learn's transforms, SimCLR": partial(
            next, _forever(DataLoader(TwoViews(flat, solo_transform(size)), batch, shuffle=True, drop_last=True))
        ),
    }
    try:
        from lightly.data import LightlyDataset
        from lightly.transforms import SimCLRTransform
    except ImportError:
        return racing  # the caller says so
    dataset = LightlyDataset(str(files[0][0].parent.parent), transform=SimCLRTransform(input_size=size))
    loader = _forever(DataLoader(dataset, batch, shuffle=True, drop_last=True))
    return {**racing, "lightly, SimCLR": partial(next, loader)}


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGB")


def _to_tensor() -> list[Any]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((GRAY[0],) * 3, (GRAY[1],) * 3)]


def _forever(loader: DataLoader[Any]) -> Any:
    while True:
        yield from loader


def _numbered(data: StepBatches) -> Any:
    yield from (data[step] for step in range(len(data)))
