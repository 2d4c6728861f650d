"""One dense task, all rows: a U-Net on each backbone, with the same budget, and what its masks are worth.

The report has the form of `training.benchmark.evaluate.task_report`: a U-Net stands where a probe does there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import timm
import torch
from tqdm import tqdm

from training.benchmark.dense.task import DenseProtocol, DenseTask
from training.benchmark.evaluate import overlap
from training.benchmark.headline import DENSE_PROBE
from training.benchmark.imagenet import shown_name
from training.benchmark.models import PLAIN_INPUT, RANDOM, Entry, is_imagenet, is_simclr
from usbackbones.metrics.segmentation import ellipse_circumference, hd95, mean_interval
from usbackbones.segmentation.masked import frame_of, truth_of
from usbackbones.segmentation.trainer import Segmenter, at_size, dice_by_class

Masks = Mapping[str, np.ndarray]
"""The metrics of a row, float [seeds, N] each."""


def predictions(
    name: str, task: DenseTask, protocol: DenseProtocol, seed: int, like: dict[str, Any] | None = None
) -> Iterator[np.ndarray]:
    """Train a U-Net and give what it finds in the evaluated pictures, as `at_size` takes it, one by one.

    Here is the guard: of the evaluated part pictures alone are read, and each is only ever predicted. `like` may hold
    a mean and std to use in place of the backbone's own.
    """
    run = Segmenter(name, task.items(), protocol.spec(seed, task.classes), None, progress=False)
    model: Any = run.model
    model.pretrained_cfg = model.pretrained_cfg | (like or {})
    run.run()
    return run.predict("test")


def measured(task: DenseTask, found: Iterator[np.ndarray] | None) -> dict[str, np.ndarray]:
    """The metrics of masks, float [N] each: the only place where masks of the evaluated part are opened.

    `found` gives what `predictions` does; None measures the true masks, which shows what the circumference alone errs
    by.

    Returns:
        "dice"; "hd95", in mm where the size of a pixel is known, else in pixels; of heads "circumference_error", mm.
        Of several structures these are means over them, and "dice <structure>" is the Dice of each.
    """
    values: dict[str, list[float]] = {}
    evaluated = [item for item in task.items() if item.part == "test"]
    numbers = range(1, 1 + len(task.classes))
    for row, item in zip(task.test_rows, evaluated, strict=True):
        height, width = frame_of(item).shape
        truth = truth_of(item, (height, width))
        mask = truth if found is None else at_size(next(found), (height, width))
        spacing = task.spacing(row, (height, width))
        of_class = dice_by_class(mask, truth, len(task.classes))
        apart = [hd95(mask == number, truth == number, spacing or (1.0, 1.0)) for number in numbers]
        told = {"dice": float(np.mean(of_class)), "hd95": float(np.mean(apart))}
        if task.structures:
            told |= {f"dice {name}": value for name, value in zip(task.classes, of_class, strict=True)}
        if spacing:
            pixels, unit = task.measures[row.clip]
            told["circumference_error"] = abs(ellipse_circumference(mask, spacing) - pixels * unit)
        for metric, value in told.items():
            values.setdefault(metric, []).append(value)
    return {metric: np.array(members) for metric, members in values.items()}


def dense_report(task: DenseTask, rows: Sequence[Entry], protocol: DenseProtocol, command: str) -> dict[str, Any]:
    """The numbers of a task's table, which `training.benchmark.markdown.markdown` renders.

    The first member of a row is its backbone, whose mean and std a random row of its architecture takes.

    Raises:
        ValueError: if a weight was pretrained on groups of the locked part that it is to be evaluated on.
    """
    evaluated = task if protocol.part == "test" else task.inner(protocol.seed)
    overlaps = {entry.name: overlap(entry, task, protocol) for entry in rows}
    likes = {entry.name: _like(entry, rows) for entry in rows if entry.members}
    found = {entry.name: _values(entry, likes[entry.name], evaluated, protocol) for entry in rows if entry.members}
    groups = [row.group for row in evaluated.test_rows]
    nulls = {entry.arch: found[entry.name] for entry in rows if entry.members and entry.name.startswith(RANDOM)}
    controls = {entry.arch: found[entry.name] for entry in rows if entry.members and is_simclr(entry.name)}
    photos = next((entry.name for entry in rows if entry.members and is_imagenet(entry.name)), "")
    first = next((entry.name for entry in rows if entry.name.startswith(RANDOM)), None)
    report: dict[str, Any] = {
        "task": task.name,
        "kind": "masks",
        "classes": list(task.classes),
        "about": " ".join([task.about, *_true_masks(evaluated)]),
        "protocol": asdict(protocol),
        "counts": {
            side: {"clips": len(part), "groups": len({row.group for row in part}), "frames": len(part)}
            for side, part in (("pretrain", evaluated.rows), (protocol.part, evaluated.test_rows))
        },
        "reference": first,
        "rows": [],
        "versions": {module.__name__: module.__version__ for module in (np, timm, torch)},
        "command": command,
    }
    for entry in rows:
        row: dict[str, Any] = {"model": shown_name(entry.name), "overlap": overlaps[entry.name]}
        if not entry.members:
            report["rows"].append(row | {"not_run": entry.why_not, "command": entry.remedy or command})
            continue
        mine, null = found[entry.name], nulls.get(entry.arch) or (found[first] if first else None)
        row |= {"arch": entry.arch, "networks": protocol.seeds, "input": _input(entry, likes[entry.name], protocol)}
        beside = {"difference": null, "to_simclr": controls.get(entry.arch), "to_imagenet": found.get(photos)}
        kept = {name: other for name, other in beside.items() if other and other is not mine and mine is not null}
        row["results"] = {DENSE_PROBE: {"frame": _numbers(mine, kept, groups, protocol)}}
        if "difference" in kept and protocol.seeds > 1:  # a single one has no spread
            spread = {metric: float(np.ptp(values.mean(1))) for metric, values in kept["difference"].items()}
            row["noise"] = {DENSE_PROBE: {"frame": spread}}
        report["rows"].append(row)
    return report


def _true_masks(task: DenseTask) -> list[str]:
    """What the true masks themselves err by, where something is measured on them."""
    if not task.measures:
        return []
    error = measured(task, None)["circumference_error"].mean()
    return [f"Of the true masks themselves the circumference errs by {error:.1f} mm."]


def _like(entry: Entry, rows: Sequence[Entry]) -> dict[str, Any]:
    """Mean and std of the weights of a random row's architecture, which it takes; else nothing."""
    trained = [row for row in rows if row.members and row.arch == entry.arch and not row.name.startswith(RANDOM)]
    if not trained or not entry.name.startswith(RANDOM):
        return {}
    network: Any = trained[0].members[0]
    return {key: network.pretrained_cfg[key] for key in ("mean", "std")}


def _input(entry: Entry, like: dict[str, Any], protocol: DenseProtocol) -> dict[str, Any]:
    """What the U-Nets of a row take."""
    network: Any = entry.members[0]
    given = {key: network.pretrained_cfg[key] for key in PLAIN_INPUT} | like
    return given | {"input_size": (given["input_size"][0], protocol.size, protocol.size)}


def _values(entry: Entry, like: dict[str, Any], task: DenseTask, protocol: DenseProtocol) -> dict[str, np.ndarray]:
    """The metrics of a row, float [seeds, N] each."""
    seeds = tqdm(range(protocol.seeds), f"{task.name}: {entry.name}", unit="U-Net")
    members = [measured(task, predictions(entry.name, task, protocol, seed, like)) for seed in seeds]
    return {metric: np.stack([member[metric] for member in members]) for metric in members[0]}


def _numbers(
    mine: Masks, references: Mapping[str, Masks], groups: list[str], protocol: DenseProtocol
) -> dict[str, dict[str, Any]]:
    """For each metric the mean with its interval, each U-Net's own, and the paired differences to other rows."""
    told: dict[str, dict[str, Any]] = {}
    for metric, values in mine.items():
        told[metric] = _interval(values.mean(0), groups, protocol) | {"members": values.mean(1).tolist()}
        for name, other in references.items():
            told[metric][name] = _interval(values.mean(0) - other[metric].mean(0), groups, protocol)
    return told


def _interval(values: np.ndarray, groups: list[str], protocol: DenseProtocol) -> dict[str, float]:
    return mean_interval(values, groups, protocol.resamples, protocol.seed)
