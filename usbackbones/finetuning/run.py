"""From labelled data to a fine-tuned timm folder: split, tune, judge once, write.

The folder holds config.json and model.safetensors, which `timm.create_model("local-dir:...")` loads, metrics.json,
predictions.csv, history.json and report.html.
"""

import copy
import csv
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

from usbackbones._files import atomic_write
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import PARTS, DataError
from usbackbones.data.leakage import copies_among, together, told
from usbackbones.data.patients import Note, Notes, counted, levels, silent, told_patients, unit
from usbackbones.data.seen import write_seen
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.report import write_finetune_report
from usbackbones.finetuning.tuner import Tuner
from usbackbones.hub import registry
from usbackbones.hub.backbone import RANDOM, build_backbone, rebuild_args
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.metrics import classification

TOLERANCE = 1e-4
"""Largest difference of a logit of the folder that was written to the network's own, relative to the largest."""


@dataclass(frozen=True)
class FineTuned:
    """What came of it.

    Attributes:
        folder: the timm folder.
        classes: names, in the order of the logits.
        metrics: {level: {metric: {"value", "low", "high"}}} on the test part, 95 % intervals over groups.
        counts: items that were read, and their groups, of each part.
        epochs: that were run.
        skipped: clips that could not be read.
        joined: near-duplicates of different groups that were kept together, in a line; empty where there are none.
        patients: how many there are and who tells them apart.
        unit: what a group is, "patient" or "group"; "" where nobody tells patients apart, and no metric is by patient.
        notes: what was noted about the data, patients and files that were passed over among it.
    """

    folder: Path
    classes: tuple[str, ...]
    metrics: dict[str, dict[str, dict[str, float]]]
    counts: dict[str, dict[str, int]]
    epochs: int
    skipped: tuple[str, ...]
    joined: str = ""
    patients: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()


def defaults_for(model: str) -> FineTune:
    """The settings that zoo.json recommends for a weight under "finetune"; the general ones for other models.

    An untrained network has nothing that frozen norms, slower lower layers or epochs of the head alone would protect.
    """
    if model.startswith(RANDOM):
        return FineTune(head_epochs=0, layer_decay=1.0, freeze_norm=False)
    name = model.removeprefix(registry.OWNER)
    recommended = registry.get_weight(name).entry.get("finetune", {}) if name in registry.list_weights() else {}
    return FineTune(**{field.name: recommended[field.name] for field in fields(FineTune) if field.name in recommended})


def finetune(
    data: Path,
    model: str,
    out: Path,
    spec: FineTune | None = None,
    *,
    group_from: str = "",
    test: float = 0.2,
    validation: float = 0.2,
    progress: bool = True,
    pictures: bool = False,
    note: Note = silent,
) -> FineTuned:
    """Fine-tune a backbone on labelled clips or stills and judge it on groups that it never saw.

    Args:
        data: a folder of class folders, or a CSV with path, label and, if known, group and split.
        model: `usbackbones/<arch>.<tag>`, any timm name, `local-dir:FOLDER`, or `random:ARCH` to compare with.
        out: the folder to write; a run that was stopped there goes on.
        spec: how; by default what zoo.json recommends for the weight.
        group_from: a regular expression that finds the group in a name, see `dataset.read_items`.
        test: share of each class's groups to judge on, where the data do not decide.
        validation: share of the others' groups to stop early on.
        progress: show bars.
        pictures: show frames and names of files and groups in report.html, which is then not to be passed on.
        note: gets each line about the data at once, besides `FineTuned.notes`.

    Raises:
        DataError: if the data cannot be split without a leak (of a group, or through near-duplicates), or read, or a
            class is missing from a part, or timm would make another network of the folder.
        UnknownModel, WeightsError, BackboneError: if the model cannot be had.
    """
    spec = spec or defaults_for(model)
    notes = Notes(note)
    given = read_items(data, group_from, notes)
    split_items(given, test, validation, spec.seed)  # what is wrong with it is told before anything is decoded
    classes = sorted({item.label for item in given})
    torch.manual_seed(spec.seed)
    network: Any = build_backbone(model, in_chans=3, num_classes=len(classes), seed=spec.seed)
    frames = Frames(given, out / "frames.u8", spec.frames, progress=progress)
    notes(frames.told_warnings())
    pairs = copies_among(given, frames, progress)
    items = split_items(together(given, pairs), test, validation, spec.seed)
    cfg: dict[str, Any] = network.pretrained_cfg
    tuner = Tuner(network, model, items, classes, spec, frames, out, progress)
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
        licence=str(cfg.get("license") or "unknown"),
        origin_url=str(cfg.get("origin_url") or ""),
        description=f"{model}, fine-tuned on {data.name}",
        num_classes=len(classes),
    )
    config["label_names"] = classes
    tuner.run()
    rows, probability = tuner.predict("test")
    metrics = judge(tuner, rows, probability, spec.seed)
    _write_folder(out, network, config, torch.stack([tuner.plain(frames[row]) for row in rows[:4]]))
    _write_predictions(out / "predictions.csv", tuner)
    trained = [row for row, owner in enumerate(frames.item) if tuner.items[owner].part != "test"]
    write_seen(out, dict.fromkeys(items[frames.item[row]].path for row in trained), (frames[row] for row in trained))
    skipped, joined = tuple(frames.skipped), told(given, pairs)
    done = FineTuned(
        out, tuple(classes), metrics, _counts(tuner), tuner.epoch, skipped, joined, told_patients(given), unit(given),
        tuple(notes.lines),
    )  # fmt: skip
    numbers = asdict(done) | {"folder": str(out), "model": model, "spec": asdict(spec), "best validation": tuner.best}
    for name, content in (("metrics.json", numbers), ("history.json", tuner.history)):
        with atomic_write(out / name, "w") as stream:
            json.dump(without_nan(content), stream, indent=1)
    facts = {
        "model": Path(model).name if model.startswith("local-dir:") else model,
        "data": data.name,
        "epochs": str(done.epochs),
        "patients": done.patients,
    }
    facts |= {part: counted(count, done.unit) for part, count in done.counts.items()}
    shown = {name: metrics[level] for level, name in levels(given).items()}
    write_finetune_report(tuner, facts, shown, rows, probability, pictures)
    (out / "frames.u8").unlink()
    return done


def judge(tuner: Tuner, rows: np.ndarray, probability: np.ndarray, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """The metrics of the test part with intervals over groups; the only place where its labels are read."""
    item = tuner.frames.item[rows]
    labels, groups = tuner.labels[item], np.array([tuner.items[i].group for i in item])
    known = classification.metrics(labels, probability, item, groups, seed)
    return {level: known[level] for level in levels(tuner.items)}


def without_nan(content: Any) -> Any:
    """The same for JSON, which has no word for NaN and infinity: None in their place."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _write_folder(out: Path, network: Any, config: dict[str, Any], images: Tensor) -> None:
    """Write the two files of the timm folder, if timm makes the same network of them, judged on images [N, C, S, S]."""
    own = copy.deepcopy(network).cpu().eval()
    with TemporaryDirectory(dir=out, prefix=".folder") as place, torch.inference_mode():
        write_timm_folder(Path(place), own.state_dict(), config)
        again = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
        wanted = own(images)
        difference = float((again(images) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
        if not difference <= TOLERANCE:
            raise DataError(
                f"{out}: timm makes another network of its name and {config['model_args']}, whose logits differ by "
                f"{difference:.1e}: start from a timm folder whose config.json has the model_args that it was made with"
            )
        for name in ("model.safetensors", "config.json"):
            (Path(place) / name).replace(out / name)


def _counts(tuner: Tuner) -> dict[str, dict[str, int]]:
    groups = {part: [tuner.items[number].group for number in tuner.of[part]] for part in PARTS}
    return {part: {"items": len(members), "groups": len(set(members))} for part, members in groups.items()}


def _write_predictions(file: Path, tuner: Tuner) -> None:
    """One row an item of the validation and test parts: what it is, and how probable each class was found."""
    with atomic_write(file, "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "group", "part", "label", "predicted", *(f"p({name})" for name in tuner.classes)])
        for part in ("validation", "test"):
            rows, probability = tuner.predict(part)
            owner = tuner.frames.item[rows]
            for number in np.unique(owner):
                item, mean = tuner.items[number], probability[owner == number].mean(0)
                predicted = tuner.classes[int(mean.argmax())]
                writer.writerow([item.path, item.group, part, item.label, predicted, *(f"{p:.4f}" for p in mean)])
