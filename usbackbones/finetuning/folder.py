"""The folder of a fine-tuned model: what timm loads, and the predictions of its validation and test parts."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from usbackbones._files import write_csv
from usbackbones.clips.cleaned import record
from usbackbones.data.item import DataError
from usbackbones.finetuning.tuner import Tuner
from usbackbones.hub.backbone import rebuild_args
from usbackbones.hub.licensing import License
from usbackbones.hub.timm_folder import timm_config, write_timm_folder

TOLERANCE = 1e-4
"""Largest difference of an output of the folder that was written to the network's own, relative to the largest."""


def folder_config(tuner: Tuner, model: str, data: str, license_: License) -> dict[str, Any]:
    """The content of config.json: timm's, with class names, and under "usbackbones" the task and its threshold.

    `model` and `data` are the names of what was fine-tuned on what.
    """
    network: Any = tuner.model
    cfg: dict[str, Any] = network.pretrained_cfg
    config = timm_config(
        network,
        arch=str(cfg["architecture"]),
        model_args=rebuild_args(network),
        tag="finetuned",
        size=max(tuner.plain.size),
        mean=cfg["mean"],
        std=cfg["std"],
        interpolation=cfg["interpolation"],
        crop_pct=cfg["crop_pct"],
        crop_mode=cfg["crop_mode"],
        licence=license_.weights,
        origin_url=str(cfg.get("origin_url") or ""),
        description=f"{model}, fine-tuned on {data}",
        num_classes=tuner.target.outputs,
    )
    rows, prediction = tuner.predict("validation")
    config["label_names"] = list(tuner.target.classes)
    config["usbackbones"] = tuner.target.describe(tuner.frames.item[rows], prediction)
    config["usbackbones"]["license"] = license_.block()
    if tuner.spec.clean:
        config["usbackbones"]["clean"] = record()
    return config


def write_folder(out: Path, network: Any, config: dict[str, Any], images: Tensor) -> None:
    """Write the two files of the timm folder if timm makes the same network of them, by images [N, C, S, S]."""
    own = copy.deepcopy(network).cpu().eval()
    with TemporaryDirectory(dir=out, prefix=".folder") as place, torch.inference_mode():
        write_timm_folder(Path(place), own.state_dict(), config)
        again = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
        wanted = own(images)
        difference = float((again(images) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
        if not difference <= TOLERANCE:
            raise DataError(
                f"{out}: timm makes another network of its name and {config['model_args']}, whose outputs differ by "
                f"{difference:.1e}: start from a timm folder whose config.json has the model_args that it was made with"
            )
        for name in ("model.safetensors", "config.json"):
            (Path(place) / name).replace(out / name)


def write_predictions(file: Path, tuner: Tuner) -> None:
    """Write one row an item of the validation and test parts: its label, and the mean prediction of its frames."""
    classes = tuner.target.classes if tuner.target.task == "classes" else ()
    table: list[list[object]] = []
    for part in ("validation", "test"):
        rows, prediction = tuner.predict(part)
        owner = tuner.frames.item[rows]
        for number in np.unique(owner):
            item, mean = tuner.items[number], prediction[owner == number].mean(0)
            predicted = classes[int(mean.argmax())] if classes else f"{mean[0]:.6g}"
            shown = [f"{p:.4f}" for p in mean] if classes else []
            table.append([item.path, item.group, part, item.label, predicted, *shown])
    write_csv(file, ["path", "group", "part", "label", "predicted", *(f"prob_{name}" for name in classes)], table)
