"""Open the folder of a fine-tuned classifier, regressor or segmenter, with all that predicting needs to know of it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from torch import nn

from usbackbones._files import sha256_of
from usbackbones.clips.cleaned import record, why_not
from usbackbones.features.transforms import Transform, transforms
from usbackbones.hub.licensing import license_of
from usbackbones.metrics.calibration import Calibration, calibrate

WEIGHTS = "model.safetensors"
Task = Literal["classes", "number", "masks"]


class PredictError(ValueError):
    """A prediction that cannot be made or written; one line that names the fault and the remedy."""


@dataclass(frozen=True)
class Validation:
    """What the model said of its own validation part, an item a row.

    Attributes:
        y: int [N], the true class.
        probability: float [N, C].
        groups: [N], patients or groups.
    """

    y: np.ndarray
    probability: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Trained:
    """A trained model, ready to predict.

    Attributes:
        folder: where it lies.
        task: "classes", "number" or "masks".
        model: in eval mode, on the GPU where there is one.
        prepare: frames uint8 [H, W] -> float32 [C, S, S], as in training; None for a segmenter.
        classes: names in the order of the outputs; for masks of the structures.
        size: side of the input in pixels.
        sha256: of its weights.
        license: of its weights, as its folder states it; "" where it states none.
        validation: its validation predictions; None where the folder holds none.
        clean: it was tuned on clean frames and is to see clean ones, see `clips.cleaned`.
    """

    folder: Path
    task: Task
    model: nn.Module
    prepare: Transform | None
    classes: tuple[str, ...]
    size: int
    sha256: str
    license: str
    validation: Validation | None = None
    clean: bool = False

    def calibration(self) -> Calibration:
        """The temperature of its probabilities, fitted on its validation groups where there are enough."""
        if self.validation is None:
            return Calibration(1.0, float("nan"), float("nan"), 0)
        return calibrate(self.validation.probability, self.validation.y, self.validation.groups)


def load_trained(name: Path | str, size: int | None = None) -> Trained:
    """Open a folder that `finetune` or `segment` wrote.

    Args:
        name: the folder, with or without `local-dir:`.
        size: another side of the input in pixels than the training's.

    Raises:
        PredictError: if it is no such folder, or its model has no head.
    """
    folder = Path(str(name).removeprefix("local-dir:"))
    if not (folder / WEIGHTS).is_file():
        raise PredictError(
            f"{folder}: no trained model there (no {WEIGHTS}); give a folder made by finetune or segment"
        )
    if (folder / "model.json").is_file():
        return _segmenter(folder, size)
    if not (folder / "config.json").is_file():
        raise PredictError(
            f"{folder}: neither config.json nor model.json beside {WEIGHTS}; run finetune or segment again"
        )
    return _classifier(folder, size)


def _classifier(folder: Path, size: int | None) -> Trained:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    outputs = int(config.get("num_classes") or 0)
    if not outputs:
        raise PredictError(f"{folder} is a backbone without a head: fine-tune it first, or use embed")
    task: Task = "number" if config.get("usbackbones", {}).get("task") == "number" else "classes"
    names = config.get("label_names") or [str(number) for number in range(outputs)]
    if task == "classes" and len(names) != outputs:
        raise PredictError(
            f"{folder / 'config.json'} names {len(names)} classes for {outputs} outputs; mend label_names"
        )
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    if size is not None:
        model.pretrained_cfg = model.pretrained_cfg | {
            "input_size": (model.pretrained_cfg["input_size"][0], size, size)
        }
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=size)
    prepare = transforms(model)
    license_name = str(license_of(f"local-dir:{folder}") or "")
    return Trained(
        folder, task, _ready(model), prepare, tuple(names), prepare.size[0], sha256_of(folder / WEIGHTS), license_name,
        _validation(folder, names) if task == "classes" else None, _clean(folder, config),
    )  # fmt: skip


def _clean(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder's model saw clean frames; refused where the same cleaning cannot be done here."""
    recorded = config.get("usbackbones", {}).get("clean")
    if not recorded:
        return False
    if reason := why_not():
        raise PredictError(f"{folder} was tuned on clean frames, and {reason}")
    if recorded != record():
        raise PredictError(f"{folder} was tuned on frames that another version cleaned otherwise: tune it again")
    return True


def _segmenter(folder: Path, size: int | None) -> Trained:
    try:
        from usbackbones.segmentation.run import load_segmenter
    except ModuleNotFoundError as error:
        raise PredictError(
            f"{folder} is a segmenter, which needs {error.name}: pip install 'usbackbones[dense]'"
        ) from error
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    trained_size = int(settings["spec"]["size"])
    if size is not None and size % 32:
        raise PredictError(f"--size {size}: a segmenter takes multiples of 32 pixels; it was trained at {trained_size}")
    names = tuple(settings.get("classes") or ("foreground",))
    if len(names) > 1:
        raise PredictError(
            f"{folder} tells {', '.join(names[1:])} apart and predict writes one mask a frame: use load_segmenter, or "
            "train again with --foreground"
        )
    return Trained(
        folder, "masks", _ready(load_segmenter(folder)), None, names, size or trained_size,
        sha256_of(folder / WEIGHTS), str(settings.get("license") or ""),
    )  # fmt: skip


def _ready(model: nn.Module) -> nn.Module:
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _validation(folder: Path, classes: list[str]) -> Validation | None:
    """The validation rows of the folder's predictions.csv."""
    file = folder / "predictions.csv"
    if not file.is_file():
        return None
    with file.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("part") == "validation"]
    if not rows or any(f"p({name})" not in rows[0] for name in classes):
        return None
    return Validation(
        np.array([classes.index(row["label"]) for row in rows]),
        np.array([[float(row[f"p({name})"]) for name in classes] for row in rows]),
        np.array([row["group"] for row in rows]),
    )
