"""Evaluate a trained model on an external labelled set; nothing is trained, and nothing is chosen on its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from usbackbones.data.dataset import read_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.patients import levels, told_patients, unit
from usbackbones.data.table import read_table
from usbackbones.metrics.calibration import scaled
from usbackbones.metrics.levels import by_clip
from usbackbones.metrics.levels import metrics as metrics_of
from usbackbones.metrics.operating_point import rates, youden_threshold
from usbackbones.predicting.frames import Predictor
from usbackbones.predicting.report import write_evaluation_report
from usbackbones.predicting.results import write_results
from usbackbones.predicting.trained import PredictError, Trained, load_trained

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation.

    Attributes:
        folder: with metrics.json, predictions.csv and report.html.
        metrics: {level: {metric: {"value", "low", "high"}}}, 95 % intervals over groups.
        rates: {class: {"sensitivity", "specificity", "ppv", "npv"}} of clips, each {"value", "low", "high", "of"}.
        threshold: {"positive", "value", "fixed_on"}: what the rates of a two-class model rest on; empty for several
            classes, where a clip is taken for the most probable one.
        subgroups: {column: {value: {"clips", "groups", "value", "low", "high"}}} of balanced accuracy.
        counts: {"clips", "groups", "seen"}: evaluated, and how many of these the model was trained on.
        notes: what a reader must know, a line each.
        unit: what a group is, "patient" or "group"; "" where nobody tells, and no metric is by patient.
        skipped: clips that could not be read, a line each.
    """

    folder: Path
    metrics: Metrics
    rates: Mapping[str, Mapping[str, Mapping[str, float]]]
    threshold: Mapping[str, Any]
    subgroups: Mapping[str, Mapping[str, Mapping[str, float]]]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    unit: str
    skipped: tuple[str, ...] = ()


def evaluate(
    model: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    group_from: str = "",
    positive: str = "",
    by: Sequence[str] = (),
    frames_per_clip: int = 8,
    size: int | None = None,
    batch: int = 32,
    seed: int = 0,
    pictures: bool = False,
    progress: bool = True,
    command: str = "",
) -> Evaluated:
    """Evaluate a fine-tuned classifier on a labelled set that it was not trained on.

    Args:
        model: the folder that `finetune` wrote.
        data: a folder of class folders, or a CSV with path and label, as for `finetune`.
        out: the folder to write.
        group_from: a regular expression that finds the patient or group in a file's name.
        positive: of two classes the one whose sensitivity is reported; by default the second by name.
        by: columns of the CSV, each for a table of its subgroups.
        frames_per_clip: frames of a clip, evenly spaced, whose mean is the clip's prediction.
        size: side of the input in pixels, if not the training's.
        batch: frames computed at a time.
        seed: of the bootstrap.
        pictures: name files and groups in report.html, which is then not to be passed on.
        progress: show bars.
        command: recorded in metrics.json.

    Raises:
        PredictError, DataError: if the model, the data or the output cannot be used.
    """
    out, data = Path(out), Path(data)
    trained = load_trained(model, size)
    if trained.task != "classes":
        raise PredictError(f"{trained.name} predicts {trained.task}: evaluate takes a classifier; use predict")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PredictError(f"-o {out} is there already: give another folder")
    notes: list[str] = []
    items = read_items(data, group_from, notes.append)
    strangers = sorted({item.label for item in items} - set(trained.classes))
    if strangers:
        raise DataError(f"{data} has the labels {', '.join(strangers)}; the model knows {', '.join(trained.classes)}")
    columns = _columns(data, by)
    calibration = trained.calibration()
    predictor = Predictor(trained, calibration.temperature)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "frames.u8"
        frames = Frames(items, file, frames_per_clip, progress=progress, clean=trained.clean)
        probability = _probabilities(predictor, frames, batch, progress)
        seen = _count_seen(trained, items, frames)
    y, groups = np.array([trained.classes.index(items[i].label) for i in frames.item]), _groups(items, frames)
    every = metrics_of(y, probability, frames.item, groups, seed)
    metrics = {level: every[level] for level in levels(items)}
    clip_y, clip_p, clip_groups = by_clip(y, probability, frames.item, groups)
    threshold, by_class = _rates(trained, positive, clip_y, clip_p, clip_groups, calibration.temperature, seed)
    numbers = np.unique(frames.item)
    paths = [items[number].path.resolve() for number in numbers]
    subgroups = {
        name: _subgroups([values[path] for path in paths], clip_y, clip_p, clip_groups, seed)
        for name, values in columns.items()
    }
    notes.append(str(calibration))
    if threshold:
        notes.append(f"{threshold['positive']} is called at {threshold['value']:.3f}, {threshold['fixed_on']}")
    if seen:
        notes.append(f"{seen} of {len(numbers)} clips were in the model's training: these numbers are too good")
    counts = {"clips": len(numbers), "groups": len(set(clip_groups)), "seen": seen}
    told, skipped = tuple(notes), tuple(frames.skipped)
    done = Evaluated(out, metrics, by_class, threshold, subgroups, counts, told, unit(items), skipped)
    write_results(done, trained, items, numbers, clip_y, clip_p, clip_groups, command)
    facts = {
        "model": Path(trained.name).name,
        "data": data.name,
        "clips": str(len(numbers)),
        "groups": told_patients(items),
    }
    write_evaluation_report(done, facts, trained.classes, y, probability, frames.item, groups, pictures)
    return done


def _probabilities(predictor: Predictor, frames: Frames, batch: int, progress: bool) -> np.ndarray:
    """Float [N, C] of all frames."""
    starts = range(0, len(frames.item), batch)
    rows = [
        predictor.outputs([frames[row] for row in range(start, min(start + batch, len(frames.item)))])
        for start in tqdm(starts, "predicting", unit="batch", disable=not progress)
    ]
    return np.concatenate(rows)


def _count_seen(trained: Trained, items: Sequence[Item], frames: Frames) -> int:
    """How many clips the model was trained on; 0 where its folder does not say."""
    seen = trained.seen()
    if seen is None:
        return 0
    first = np.unique(frames.item, return_index=True)[1]
    return sum(seen.has(items[frames.item[row]].path, frames[row]) for row in first)


def _groups(items: Sequence[Item], frames: Frames) -> np.ndarray:
    return np.array([items[number].group for number in frames.item])


def _rates(
    trained: Trained,
    positive: str,
    y: np.ndarray,
    probability: np.ndarray,
    groups: np.ndarray,
    temperature: float,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The threshold of a two-class model, and the rates of each class, by clip."""
    classes = trained.classes
    if positive and positive not in classes:
        raise PredictError(f"--positive {positive!r} is none of the classes: {', '.join(classes)}")
    if len(classes) != 2:
        called = probability.argmax(1)
        return {}, {name: rates(called == c, y == c, groups, seed=seed) for c, name in enumerate(classes)}
    c = classes.index(positive) if positive else 1
    value, fixed_on = 0.5, "since the model's folder holds no validation predictions"
    validation = trained.validation
    if validation is not None and 0 < (validation.y == c).sum() < len(validation.y):
        calibrated = scaled(validation.probability, temperature)
        value = youden_threshold(calibrated[:, c], validation.y == c)
        fixed_on = f"fixed on the model's {len(validation.y)} validation items"
    told = {"positive": classes[c], "value": value, "fixed_on": fixed_on}
    return told, {classes[c]: rates(probability[:, c] >= value, y == c, groups, seed=seed)}


def _columns(data: Path, names: Sequence[str]) -> dict[str, dict[Path, str]]:
    """The value of each clip in some columns of the table: {column: {path: value}}."""
    if names and data.is_dir():
        raise DataError(f"--by {names[0]} needs a CSV with that column; {data} is a folder")
    rows = read_table(data, {"path", *names}) if names else []
    return {
        name: {(data.parent / row["path"].strip()).resolve(): (row[name] or "").strip() or "(empty)" for row in rows}
        for name in names
    }


def _subgroups(
    values: Sequence[str], y: np.ndarray, probability: np.ndarray, groups: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """Balanced accuracy ("value", "low", "high") of the clips of each value."""
    places = {value: [place for place, own in enumerate(values) if own == value] for value in sorted(set(values))}
    result = {}
    for value, own in places.items():
        found = metrics_of(y[own], probability[own], np.arange(len(own)), groups[own], seed)
        accuracy = found["clip"]["balanced_accuracy"]
        result[value] = {"clips": len(own), "groups": len(set(groups[own])), **accuracy}
    return result
