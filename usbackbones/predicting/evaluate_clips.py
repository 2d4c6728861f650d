"""Evaluation of a classifier or a regressor: by frame, clip and patient, rates at a threshold, subgroups."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from usbackbones._words import plural
from usbackbones.data.dataset import read_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import Note, levels, told_patients, unit
from usbackbones.data.targets import numbers_of
from usbackbones.features.ahead import loaded
from usbackbones.metrics.calibration import scaled
from usbackbones.metrics.levels import by_clip
from usbackbones.metrics.levels import metrics as metrics_of
from usbackbones.metrics.operating_point import rates, youden_threshold
from usbackbones.predicting.evaluate import Asked, Evaluated, told_seen
from usbackbones.predicting.report import class_sections, write_evaluation_report
from usbackbones.predicting.results import write_results
from usbackbones.predicting.rows import Predictor, value_column
from usbackbones.predicting.subgroups import columns_of, subgroups
from usbackbones.predicting.trained import PredictError, Trained
from usbackbones.report import Predictions
from usbackbones.report.agreement import agreement_sections

HEADLINE = {"classes": "balanced_accuracy", "number": "mae"}


def evaluate_clips(trained: Trained, asked: Asked) -> Evaluated:
    """See `evaluate`."""
    notes: list[str] = []
    items = read_items(asked.data, asked.group_from, notes.append, asked.label, least=1)
    if asked.positive and asked.positive not in trained.classes:
        raise PredictError(f"--positive {asked.positive!r} is none of the classes: {', '.join(trained.classes)}")
    if trained.task == "classes":
        items = _of_the_model(items, trained.classes, asked, notes.append)
    elif asked.names:
        raise PredictError(f"--map is about classes; {trained.name} predicts a number")
    truths = numbers_of(items) if trained.task == "number" else [trained.classes.index(item.label) for item in items]
    columns = columns_of(asked.data, asked.by, "path")
    calibration = trained.calibration() if trained.task == "classes" else None
    temperature = calibration.temperature if calibration else 1.0
    predictor = Predictor(trained, temperature)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "frames.u8"
        frames = Frames(items, file, asked.frames_per_clip, progress=asked.progress, clean=trained.clean)
        outputs = _outputs(predictor, frames, asked)
        seen = _count_seen(trained, items, frames)
    y, groups = np.array(truths)[frames.item], np.array([items[number].group for number in frames.item])
    predicted = outputs if trained.task == "classes" else outputs[:, 0]
    every = metrics_of(y, predicted, frames.item, groups, asked.seed)
    clip_y, clip_p, clip_groups = by_clip(y, outputs, frames.item, groups)
    threshold: dict[str, Any] = {}
    by_class: dict[str, Any] = {}
    if calibration:
        threshold, by_class = _rates(trained, asked, clip_y, clip_p, clip_groups, temperature)
        notes.append(str(calibration))
    if threshold:
        notes.append(f"{threshold['positive']} is called at {threshold['value']:.3f}, {threshold['fixed_on']}")
    numbers = np.unique(frames.item)
    notes += told_seen(seen, len(numbers), "clip")
    headline = HEADLINE[trained.task]
    clip_predicted = clip_p if trained.task == "classes" else clip_p[:, 0]

    def measure(own: np.ndarray) -> dict[str, float]:
        found = metrics_of(clip_y[own], clip_predicted[own], np.arange(len(own)), clip_groups[own], asked.seed)
        return found["clip"][headline]

    done = Evaluated(
        asked.out,
        trained.task,
        headline,
        {level: every[level] for level in levels(items)},
        subgroups(columns, [items[number].path for number in numbers], clip_groups, "clips", measure),
        {"clips": len(numbers), "groups": len(set(clip_groups))} | ({} if seen is None else {"seen": seen}),
        tuple(notes),
        unit(items),
        tuple(frames.skipped),
        by_class,
        threshold,
        license=trained.license,
    )
    if trained.task == "classes":
        header = ["file", "group", "label", "prediction", *(f"prob_{name}" for name in trained.classes)]
        cells = [
            [trained.classes[label], trained.classes[int(row.argmax())], *(f"{p:.6f}" for p in row)]
            for label, row in zip(clip_y, clip_p, strict=True)
        ]
        sections = class_sections(done, trained.classes, clip_y, clip_p)
        predictions = Predictions(trained.classes, y, outputs, frames.item, groups, unit(items) or "file")
    else:
        header = ["file", "group", "label", value_column(trained), "error"]
        cells = [[f"{v:.6g}" for v in (a, b, b - a)] for a, b in zip(clip_y, clip_p[:, 0], strict=True)]
        sections, predictions = agreement_sections(y, predicted, frames.item), None
    files = [[items[number].path, group] for number, group in zip(numbers, clip_groups, strict=True)]
    rows = [[*file, *own] for file, own in zip(files, cells, strict=True)]
    write_results(done, trained, header, rows, asked.command)
    facts = {"clips": str(len(numbers)), "groups": told_patients(items)}
    write_evaluation_report(done, trained, asked, facts, sections, predictions)
    return done


def _of_the_model(items: Sequence[Item], classes: tuple[str, ...], asked: Asked, note: Note) -> list[Item]:
    """The items with the model's names of their classes; those that --map leaves out are counted."""
    labels, names = {item.label for item in items}, asked.names
    if unused := sorted(set(names) - labels):
        raise DataError(
            f"--map {unused[0]}={names[unused[0]]}: {asked.data} has the labels {', '.join(sorted(labels))}"
        )
    if wrong := sorted({to for to in names.values() if to} - set(classes)):
        raise DataError(f"--map to {wrong[0]}: the model knows {', '.join(classes)}")
    kept = [replace(item, label=names.get(item.label, item.label)) for item in items]
    if strangers := sorted({item.label for item in kept if item.label} - set(classes)):
        raise DataError(
            f"{asked.data} has the labels {', '.join(strangers)}; the model knows {', '.join(classes)}: "
            f"one --map with {shlex.join(f'{label}=CLASS' for label in strangers)} says which class each is; "
            f"{strangers[0]}= leaves its clips out"
        )
    if out := sum(not item.label for item in kept):
        note(f"{out} of {plural(len(kept), 'clip')} left out by --map")
    kept = [item for item in kept if item.label]
    if not kept:
        raise DataError(f"--map leaves no clip of {asked.data}")
    there = {item.label for item in kept}
    if len(there) == 1:
        note(
            f"every clip of {asked.data.name} is of {there.pop()}: the balanced accuracy is the share of them whose "
            "most probable class it is, and AUROC, PPV and NPV are not defined without clips of another class"
        )
    elif lacking := [name for name in classes if name not in there]:
        note(f"no clip of {', '.join(lacking)} in {asked.data.name}: means over classes are over the others")
    return kept


def _outputs(predictor: Predictor, frames: Frames, asked: Asked) -> np.ndarray:
    """Float [N, C] of all frames."""
    starts = range(0, len(frames.item), asked.batch)

    def read(start: int) -> tuple[torch.Tensor, ...]:
        return predictor.read([frames[row] for row in range(start, min(start + asked.batch, len(frames.item)))])

    images = loaded(starts, read, predictor.device)
    bar = tqdm(images, "predicting", len(starts), unit="batch", disable=not asked.progress)
    return np.concatenate([predictor.outputs(*tensors) for _, tensors in bar])


def _count_seen(trained: Trained, items: Sequence[Item], frames: Frames) -> int | None:
    """How many clips the model was trained on; None where its folder does not say."""
    seen = trained.seen()
    if seen is None:
        return None
    first = np.unique(frames.item, return_index=True)[1]
    return sum(seen.has(items[frames.item[row]].path, frames[row]) for row in first)


def _rates(
    trained: Trained, asked: Asked, y: np.ndarray, probability: np.ndarray, groups: np.ndarray, temperature: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The threshold of a two-class model, and the rates of each class, by clip."""
    classes = trained.classes
    if len(classes) != 2:
        called = probability.argmax(1)
        return {}, {name: rates(called == c, y == c, groups, seed=asked.seed) for c, name in enumerate(classes)}
    c = classes.index(asked.positive) if asked.positive else 1
    value, fixed_on = _threshold(trained, c, temperature)
    told = {"positive": classes[c], "value": value, "fixed_on": fixed_on}
    return told, {classes[c]: rates(probability[:, c] >= value, y == c, groups, seed=asked.seed)}


def _threshold(trained: Trained, c: int, temperature: float) -> tuple[float, str]:
    """Where class c of two is called, and what fixed that: the folder, its validation predictions, or nothing."""
    if trained.threshold is not None:  # of the second class, before the temperature
        pair = np.array([[1 - trained.threshold, trained.threshold]])
        return float(scaled(pair, temperature)[0, c]), "fixed on the validation part of its training"
    validation = trained.validation
    if validation is not None and 0 < (validation.y == c).sum() < len(validation.y):
        calibrated = scaled(validation.probability, temperature)
        value = youden_threshold(calibrated[:, c], validation.y == c)
        return value, f"fixed on the model's {len(validation.y)} validation items"
    return 0.5, "since the model's folder holds no validation predictions"
