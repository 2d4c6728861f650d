"""Open a fine-tuned classifier, regressor or segmenter, with all that predicting needs to know of it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from usbackbones._errors import Refused
from usbackbones._files import sha256_of
from usbackbones._run_folder import RECORD
from usbackbones.clips.cleaned import record, why_not
from usbackbones.data.item import DataError
from usbackbones.data.seen import Seen, read_seen
from usbackbones.features.transforms import Transform, transforms
from usbackbones.hub import registry
from usbackbones.hub.backbone import HUB, LOCAL, RANDOM, RUN, build_backbone, full_name
from usbackbones.hub.errors import BackboneError, UnknownModel, WeightsError
from usbackbones.hub.foreign_weights import folder_of_hub
from usbackbones.hub.licensing import license_of
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.metrics.calibration import Calibration, calibrate

WEIGHTS = "model.safetensors"
Task = Literal["classes", "number", "masks"]


class PredictError(Refused):
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
        name: in full, as outputs name it.
        folder: where it lies; None for a name that is no folder.
        task: "classes", "number" or "masks".
        model: in eval mode, on the GPU where there is one.
        prepare: frames uint8 [H, W] -> float32 [C, S, S], as in training; None for a segmenter.
        classes: names in the order of the outputs; for masks of the structures.
        size: side of the input in pixels.
        sha256: of its weights: of the file, or of the tensors where timm loads them by a name.
        license: of its weights, as their source states it; "" where it states none.
        validation: its validation predictions; None where the folder holds none.
        clean: it was tuned on clean frames and is to see clean ones, see `clips.cleaned`.
        threshold: of two classes the probability of the second, before any temperature, from which on a clip is called
            it; None where the folder says nothing.
        target: what a number measures and in which unit, "_" between, as "ef_%"; "" where the folder does not say.
    """

    name: str
    folder: Path | None
    task: Task
    model: nn.Module
    prepare: Transform | None
    classes: tuple[str, ...]
    size: int
    sha256: str
    license: str
    validation: Validation | None = None
    clean: bool = False
    threshold: float | None = None
    target: str = ""

    def calibration(self) -> Calibration:
        """The temperature of its probabilities, fitted on its validation groups where there are enough."""
        if self.validation is None:
            return Calibration(1.0, float("nan"), float("nan"), 0)
        return calibrate(self.validation.probability, self.validation.y, self.validation.groups)

    def seen(self) -> Seen | None:
        """The clips that it was trained on; None where its folder does not say."""
        return read_seen(self.folder) if self.folder else None

    def about(self) -> dict[str, str]:
        """What every output says of the weights."""
        stated = self.license or "not stated"
        return {"model": self.name, "weights_sha256": self.sha256, "weights_license": stated}


def load_trained(name: Path | str, size: int | None = None) -> Trained:
    """Open a model with a head: a folder that `finetune` or `segment` wrote, or any name that carries a classifier.

    Args:
        name: the folder, with or without `local-dir:`; or `hf-hub:OWNER/NAME`, or a name of timm's.
        size: another side of the input in pixels than the training's.

    Raises:
        PredictError: if there is no such model, or it has no head.
    """
    folder = Path(str(name).removeprefix(LOCAL)).expanduser()
    if folder.is_dir():
        if not (folder / WEIGHTS).is_file() and (folder / RECORD).is_file():
            raise PredictError(f"{folder}: its training has not finished; give the command that trains it again")
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
        return _classifier(f"{LOCAL}{folder}", size)
    if str(name).startswith(LOCAL) or folder.is_absolute():
        raise PredictError(
            f"{folder}: no trained model there (no such folder); give a folder made by finetune or segment"
        )
    try:
        full = full_name(str(name))
        if full.startswith((registry.OWNER, RUN, RANDOM)):
            raise PredictError(_bare(full))
        return _classifier(full, size)
    except (BackboneError, UnknownModel, WeightsError) as error:
        raise PredictError(str(error)) from error


def _bare(name: str) -> str:
    return (
        f"{name} is a backbone without a head: usbackbones finetune DATA --model {name} -o tuned makes a model that "
        "predicts, and embed gives its features"
    )


def _classifier(full: str, size: int | None) -> Trained:
    """A model of timm's: a folder, a Hub repository, or a name."""
    place: Path | None = None
    if full.startswith(LOCAL):
        place = Path(full.removeprefix(LOCAL))
    elif full.startswith(HUB):
        place = folder_of_hub(full)
    config = json.loads((place / "config.json").read_text(encoding="utf-8")) if place else {}
    if place and not config.get("num_classes"):
        raise PredictError(_bare(full))
    try:
        model: Any = build_backbone(full, None, None, size=size)
    except (BackboneError, WeightsError) as error:
        raise PredictError(str(error)) from error
    if not model.num_classes:
        raise PredictError(_bare(full))
    told = config.get("usbackbones", {})
    task: Task = "number" if told.get("task") == "number" else "classes"
    names = config.get("label_names") or [str(number) for number in range(model.num_classes)]
    if task == "classes" and len(names) != model.num_classes:
        raise PredictError(
            f"{full}: config.json names {len(names)} classes for {model.num_classes} outputs; mend label_names"
        )
    if task == "classes" and len(set(names)) < len(names):
        raise PredictError(f"{full}: config.json names a class twice ({', '.join(names)}); mend label_names")
    prepare = transforms(model)
    return Trained(
        full.removeprefix(LOCAL),
        place,
        task,
        _ready(model),
        prepare,
        tuple(names),
        max(prepare.size),
        sha256_of(place / WEIGHTS) if place else sum_of(model.state_dict()),
        str(license_of(full) or ""),
        _validation(place, names) if place and task == "classes" else None,
        _clean(full, config),
        told.get("threshold"),
        "_".join(told[key] for key in ("label", "unit") if told.get(key)),
    )


def _clean(full: str, config: Mapping[str, Any]) -> bool:
    """Whether a model saw clean frames; refused where the same cleaning cannot be done here."""
    recorded = config.get("usbackbones", {}).get("clean")
    if not recorded:
        return False
    if reason := why_not():
        raise PredictError(f"{full} was tuned on clean frames, and {reason}")
    if recorded != record():
        raise PredictError(f"{full} was tuned on frames that another version cleaned otherwise: tune it again")
    return True


def _segmenter(folder: Path, size: int | None) -> Trained:
    try:
        from usbackbones.segmentation.run import load_segmenter
    except ModuleNotFoundError as error:
        raise PredictError(
            f"{folder} is a segmenter, which needs {error.name}: pip install 'usbackbones[dense]'"
        ) from error
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    try:
        model = load_segmenter(folder)
    except DataError as error:
        raise PredictError(str(error)) from error
    trained_size = int(settings["spec"]["size"])
    if size is not None and (size < 32 or size % 32):
        raise PredictError(f"--size {size}: a segmenter takes multiples of 32 pixels; it was trained at {trained_size}")
    return Trained(
        str(folder), folder, "masks", _ready(model), None, tuple(settings["spec"]["classes"]),
        size or trained_size, sha256_of(folder / WEIGHTS), str(settings.get("license") or ""),
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
    columns = [f"prob_{name}" for name in classes]
    if not rows or set(columns) - rows[0].keys() or {row["label"] for row in rows} - {*classes}:
        return None
    return Validation(
        np.array([classes.index(row["label"]) for row in rows]),
        np.array([[float(row[column]) for column in columns] for row in rows]),
        np.array([row["group"] for row in rows]),
    )
