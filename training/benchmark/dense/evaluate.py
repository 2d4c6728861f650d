"""One dense task, all rows: a U-Net on each backbone, with the same budget, and what its masks are worth."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import timm
import torch
from tqdm import tqdm

from training.benchmark.dense.task import DenseProtocol, DenseTask
from training.benchmark.evaluate import overlap
from training.benchmark.imagenet import shown_name
from training.benchmark.models import RANDOM, Entry
from usbackbones.metrics.segmentation import dice, ellipse_circumference, hd95, mean_interval
from usbackbones.segmentation.masked import frame_of, mask_of
from usbackbones.segmentation.trainer import Segmenter, at_size


def predictions(
    name: str, task: DenseTask, protocol: DenseProtocol, seed: int, like: dict[str, Any] | None = None
) -> Iterator[np.ndarray]:
    """Train a U-Net and give how probable each pixel of the evaluated pictures is foreground, float [S, S], one by one.

    Here is the guard: of the evaluated part pictures alone are read, and each is only ever predicted. `like` may hold
    a mean and std to use in place of the backbone's own.
    """
    run = Segmenter(name, task.items(), protocol.spec(seed), None, progress=False)
    model: Any = run.model
    model.pretrained_cfg = model.pretrained_cfg | (like or {})
    run.run()
    return run.predict("test")


def measured(task: DenseTask, found: Iterator[np.ndarray] | None) -> dict[str, np.ndarray]:
    """The metrics of masks, float [N] each: the only place where masks of the evaluated part are opened.

    `found` gives float [S, S] for each; None measures the true masks, which shows what the circumference alone errs by.

    Returns:
        "dice"; "hd95", in mm where the size of a pixel is known, else in pixels; of heads "circumference_error", mm.
    """
    values: dict[str, list[float]] = {}
    evaluated = [item for item in task.items() if item.part == "test"]
    for row, item in zip(task.test_rows, evaluated, strict=True):
        height, width = frame_of(item).shape
        truth = mask_of(item, (height, width))
        mask = truth if found is None else at_size(next(found), (height, width))
        spacing = task.spacing(row, (height, width))
        told = {"dice": dice(mask, truth), "hd95": hd95(mask, truth, spacing or (1.0, 1.0))}
        if spacing:
            pixels, unit = task.measures[row.clip]
            told["circumference_error"] = abs(ellipse_circumference(mask, spacing) - pixels * unit)
        for metric, value in told.items():
            values.setdefault(metric, []).append(value)
    return {metric: np.array(members) for metric, members in values.items()}


def dense_report(task: DenseTask, rows: Sequence[Entry], protocol: DenseProtocol, command: str) -> dict[str, Any]:
    """The numbers of a task's table, which `training.benchmark.dense.run.markdown` renders.

    The first member of a row is its backbone, whose mean and std a random row of its architecture takes.

    Raises:
        ValueError: if a weight was pretrained on groups of the locked part that it is to be evaluated on.
    """
    evaluated = task if protocol.part == "test" else task.inner(protocol.seed)
    overlaps = {entry.name: overlap(entry, task, protocol) for entry in rows}
    found = {entry.name: _values(entry, rows, evaluated, protocol) for entry in rows if entry.members}
    groups = [row.group for row in evaluated.test_rows]
    report: dict[str, Any] = {
        "task": task.name,
        "about": task.about,
        "protocol": asdict(protocol),
        "counts": {
            side: {"pictures": len(part), "groups": len({row.group for row in part})}
            for side, part in (("fit", evaluated.rows), ("judged", evaluated.test_rows))
        },
        "millimetres": bool(task.measures),
        "rows": [],
        "versions": {module.__name__: module.__version__ for module in (np, timm, torch)},
        "command": command,
    }
    if task.measures:
        report["true_masks"] = float(measured(evaluated, None)["circumference_error"].mean())
    nulls = {entry.arch: entry.name for entry in rows if entry.name.startswith(RANDOM)}
    for entry in rows:
        row: dict[str, Any] = {"model": shown_name(entry.name), "overlap": overlaps[entry.name]}
        if entry.members:
            null = nulls.get(entry.arch)
            against = found[null] if null and null != entry.name else None
            row |= {"arch": entry.arch, "results": _row(found[entry.name], against, groups, protocol)}
        else:
            row |= {"not_run": entry.why_not, "command": entry.remedy or command}
        report["rows"].append(row)
    return report


def _values(entry: Entry, rows: Sequence[Entry], task: DenseTask, protocol: DenseProtocol) -> dict[str, np.ndarray]:
    """The metrics of a row, float [seeds, N] each."""
    trained = [
        one.members[0] for one in rows if one.members and one.arch == entry.arch and not one.name.startswith(RANDOM)
    ]
    cfg: Any = trained[0].pretrained_cfg if trained and entry.name.startswith(RANDOM) else {}
    like = {key: cfg[key] for key in ("mean", "std") if key in cfg}
    seeds = tqdm(range(protocol.seeds), f"{task.name}: {entry.name}", unit="U-Net")
    members = [measured(task, predictions(entry.name, task, protocol, seed, like)) for seed in seeds]
    return {metric: np.stack([member[metric] for member in members]) for metric in members[0]}


def _row(
    mine: dict[str, np.ndarray], null: dict[str, np.ndarray] | None, groups: list[str], protocol: DenseProtocol
) -> dict[str, Any]:
    """For each metric the mean with its interval, each U-Net's own, and the paired difference to random."""
    told: dict[str, Any] = {}
    for metric, values in mine.items():
        told[metric] = _interval(values.mean(0), groups, protocol) | {"members": values.mean(1).tolist()}
        if null is not None:
            apart = values.mean(0) - null[metric].mean(0)
            told[metric]["difference"] = _interval(apart, groups, protocol)
            if len(null[metric]) > 1:  # a single one has no spread
                told[metric]["noise"] = float(np.ptp(null[metric].mean(1)))
    return told


def _interval(values: np.ndarray, groups: list[str], protocol: DenseProtocol) -> dict[str, float]:
    return mean_interval(values, groups, protocol.resamples, protocol.seed)
