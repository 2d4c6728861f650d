"""Choose what to export of a model name: a fine-tuned classifier, a segmenter or a backbone, and what its file says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from usbackbones._version import __version__
from usbackbones.exporting.export import ExportError
from usbackbones.hub.backbone import LOCAL, build_backbone, full_name
from usbackbones.hub.licensing import LicenseError, is_noncommercial, license_for


@dataclass(frozen=True)
class Subject:
    """A network to export.

    Attributes:
        name: in full.
        network: its `pretrained_cfg` describes it as built.
        output: what the program gives: "features", "logits" of classes, "value" of a number in its unit, or "masks",
            logits of structures.
        facts: for the metadata of the file, all text: model, output, classes, input, license, version.
    """

    name: str
    network: nn.Module
    output: Literal["features", "logits", "value", "masks"]
    facts: dict[str, str]


def subject_of(
    name: str | None, channels: int | None = None, backbone: bool = False, license_name: str = ""
) -> Subject:
    """The network of a name: with the head of a folder that finetune or segment wrote, else without any.

    Args:
        name: any that `usbackbones.build_backbone` takes, or `local-dir:` and a folder of `segment`.
        channels: of the input, 1 or 3; None is 1, or what a segmenter was trained with.
        backbone: leave the head of a fine-tuned folder out.
        license_name: of the weights, where their source states none.

    Raises:
        ExportError: if a segmenter is asked for other channels, its backbone alone, or is a Mask R-CNN.
        LicenseError: if nobody states the license.
        BackboneError, UnknownModel, WeightsError, DataError: if the model could not be loaded.
    """
    full = full_name(name)
    folder = Path(full.removeprefix(LOCAL)) if full.startswith(LOCAL) else None
    if folder and (folder / "model.json").is_file():
        return _segmenter(full, folder, channels, backbone, license_name)
    config: dict[str, Any] = {}
    if folder and (folder / "config.json").is_file():
        try:
            config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ExportError(
                f"{folder / 'config.json'} is no JSON object ({error}): write the folder again"
            ) from error
    headed = bool(config.get("num_classes")) and not backbone
    network = build_backbone(full, channels or 1, None if headed else 0)
    told = (config.get("usbackbones") or {}) if headed else {}
    number = told.get("task") == "number"
    output: Literal["features", "logits", "value"] = "value" if number else "logits" if headed else "features"
    classes = (config.get("label_names") or []) if output == "logits" else []
    facts = _facts(full, network, output, classes, str(license_for(full, license_name)))
    if number:
        facts |= {"label": str(told.get("label") or ""), "unit": str(told.get("unit") or "")}
    if told.get("clean"):
        facts["clean"] = "frames cut to the sector, text and calipers black: not done by the program"
    return Subject(full, network, output, facts)


def _segmenter(full: str, folder: Path, channels: int | None, backbone: bool, license_name: str) -> Subject:
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    trained = settings["spec"]["in_chans"]
    if settings["spec"]["head"] != "unet":
        raise ExportError(f"{full} is a Mask R-CNN, whose number of findings no fixed program has: train a U-Net")
    if backbone:
        raise ExportError(f"{full} is a segmenter: export the backbone that it began with, {settings['model']}")
    if channels not in (None, trained):
        raise ExportError(f"{full} takes {trained} channel(s), not {channels}: leave --channels out")
    try:
        from usbackbones.segmentation.run import load_segmenter
    except ModuleNotFoundError as error:
        raise ExportError(f"{full}: a segmenter needs {error.name}: pip install 'usbackbones[dense]'") from error
    network = load_segmenter(folder)
    stated = str(settings.get("license") or "") or str(license_for(settings["model"]))
    if license_name and is_noncommercial([stated]) and not is_noncommercial([license_name]):
        raise LicenseError(f"--license {license_name}: {full} is {stated}; what is made of it stays non-commercial")
    classes = list(settings.get("classes") or ["foreground"])
    return Subject(full, network, "masks", _facts(full, network, "masks", classes, license_name or stated))


def _facts(full: str, network: nn.Module, output: str, classes: list[str], license_: str) -> dict[str, str]:
    """What a program's file says of it; the name of a folder, never its path."""
    cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    channels, height, width = cfg["input_size"]
    return {
        "model": f"{LOCAL}{Path(full.removeprefix(LOCAL)).name}" if full.startswith(LOCAL) else full,
        "output": output,
        "classes": json.dumps(classes),
        "channels": str(channels),
        "size": json.dumps([height, width]),
        "mean": json.dumps(list(cfg["mean"])),
        "std": json.dumps(list(cfg["std"])),
        "interpolation": str(cfg["interpolation"]),
        "crop_mode": str(cfg.get("crop_mode", "center")),
        "crop_pct": str(cfg.get("crop_pct", 1.0)),
        "license": license_,
        "usbackbones": __version__,
    }
