"""Ridge probes of a measured number on frozen features, evaluated on groups that they never saw."""

import csv
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
from torch import nn

from usbackbones._files import atomic_write
from usbackbones._run_folder import claim, digest, finish
from usbackbones.data.frames import Frames
from usbackbones.data.item import Item
from usbackbones.data.leakage import copies_among, together, told
from usbackbones.data.patients import levels, told_patients, unit
from usbackbones.data.targets import as_one_class
from usbackbones.features.extract import embed
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.metrics import regression
from usbackbones.metrics.classification import by_clip, by_level
from usbackbones.probing.evaluate import ProbeSpec, divisions
from usbackbones.probing.probes import ridge_predict
from usbackbones.report import write_report
from usbackbones.report.agreement import agreement_sections

Numbers = dict[str, dict[str, dict[str, float]]]
"""{level: {metric: {"value", "low", "high"}}}, 95 % intervals over groups."""


@dataclass(frozen=True)
class ProbedNumbers:
    """Result of probing for a number.

    Attributes:
        counts: items and groups that were evaluated.
        metrics: {model: Numbers}, see `usbackbones.metrics.regression`.
        differences: {"first - second": Numbers}, paired: both models meet the same resampled groups.
        skipped: clips that could not be read.
        joined: near-duplicates of different groups that were kept together, in a line; empty where there are none.
        patients: how many there are and who tells them apart.
        unit: what a group is, "patient" or "group"; "" where nobody tells patients apart.
        was_finished: the folder held this very run, finished, and nothing was done.
    """

    counts: dict[str, int]
    metrics: dict[str, Numbers]
    differences: dict[str, Numbers]
    skipped: tuple[str, ...] = ()
    joined: str = ""
    patients: str = ""
    unit: str = ""
    was_finished: bool = False


def probe_numbers(
    items: Sequence[Item],
    models: dict[str, nn.Module],
    out: Path,
    spec: ProbeSpec | None = None,
    *,
    progress: bool = True,
) -> ProbedNumbers:
    """Predict the numbers that labels are by ridge regression; write metrics.json, predictions.csv and report.html.

    Args:
        items: from `dataset.read_items`, whose labels are numbers.
        models: by the name to show, any timm models; on whatever device they are.
        out: the folder; new, empty, or of this very run.
        spec: how; few labels are for classes alone.
        progress: show bars.

    Raises:
        DataError: if the data cannot be divided without a leak, or nothing can be read.
        FolderTaken: if the folder holds another run or something else.
    """
    spec = spec or ProbeSpec()
    divisions(as_one_class(items), spec.folds, spec.seed)  # what is wrong with them is reported before decoding
    sums = {name: sum_of(model.state_dict()) for name, model in models.items()}
    settings = {"models": sums, "spec": asdict(spec), "items": digest([asdict(item) for item in items])}
    if claim(out, "probe for a number", settings):
        before = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        return ProbedNumbers(**{f.name: before[f.name] for f in fields(ProbedNumbers)} | {"was_finished": True})
    with tempfile.TemporaryDirectory(dir=out, prefix=".frames") as scratch:
        frames = Frames(items, Path(scratch) / "frames.u8", spec.per_clip, progress=progress)
        pairs = copies_among(items, frames, progress)
        whole = together(as_one_class(items), pairs)
        parts = divisions(whole, spec.folds, spec.seed)
        y = np.array([float(items[number].label) for number in frames.item])
        group = np.array([whole[number].group for number in frames.item])
        predicted = {}
        for name, model in models.items():
            x = embed(model, (frames[row] for row in range(len(y))), spec.batch)
            predicted[name] = _predict(x, y, group, frames.item, parts)
    rows = np.flatnonzero(~np.isnan(next(iter(predicted.values()))))
    truth, clip, of = y[rows], frames.item[rows], group[rows]
    shown = levels(items)
    known = {name: regression.metrics(truth, values[rows], clip, of, spec.seed) for name, values in predicted.items()}
    done = ProbedNumbers(
        {"items": len(set(clip.tolist())), "groups": len(set(of.tolist()))},
        {name: {level: numbers[level] for level in shown} for name, numbers in known.items()},
        {
            f"{a} - {b}": {
                level: numbers
                for level, numbers in _difference(truth, predicted[a][rows], predicted[b][rows], clip, of, spec).items()
                if level in shown
            }
            for a, b in combinations(models, 2)
        },
        tuple(frames.skipped),
        told(items, pairs),
        told_patients(items),
        unit(items),
    )
    with atomic_write(out / "metrics.json", "w") as stream:
        json.dump(asdict(done) | {"spec": asdict(spec)}, stream, indent=1)
    with atomic_write(out / "predictions.csv", "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "group", "label", "model", "predicted"])
        for name, values in predicted.items():
            _, mean, _ = by_clip(truth, values[rows][:, None], clip, of)
            for number, value in zip(np.unique(clip), mean[:, 0], strict=True):
                writer.writerow([items[number].path, whole[number].group, items[number].label, name, f"{value:.6g}"])
    sections = [section for values in predicted.values() for section in agreement_sections(truth, values[rows], clip)]
    write_report(
        out / "report.html",
        "Ridge probes for a number",
        facts={"models": ", ".join(Path(name).name for name in models), "patients": done.patients},
        metrics={
            f"{Path(name).name}, {shown[level]}": values
            for name, numbers in {**done.metrics, **done.differences}.items()
            for level, values in numbers.items()
        },
        sections=sections,
    )
    finish(out)
    return done


def _predict(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, clip: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """The prediction of each frame by a probe that never saw its group, float [N]; nan where it is only fitted on."""
    predicted = np.full(len(y), np.nan)
    for train, test in parts:
        fit, held = np.isin(clip, train), np.isin(clip, test)
        if held.any():
            predicted[held] = ridge_predict(x[fit], y[fit], group[fit], x[held], clip[fit])[0]
    return predicted


def _difference(
    y: np.ndarray, first: np.ndarray, second: np.ndarray, clip: np.ndarray, group: np.ndarray, spec: ProbeSpec
) -> Numbers:
    """First less second, with the interval of the paired differences."""
    values = [regression.scores(y, predicted, clip, group) for predicted in (first, second)]
    both = [by_level(y, predicted[:, None], clip, group) for predicted in (first, second)]
    found: Numbers = {}
    for level, (truth, _, of) in both[0].items():
        drawn = [regression.bootstrap(truth, levels_of[level][1][:, 0], of, seed=spec.seed) for levels_of in both]
        apart = {metric: values[0][level][metric] - values[1][level][metric] for metric in regression.METRICS}
        samples = {metric: drawn[0][metric] - drawn[1][metric] for metric in regression.METRICS}
        found[level] = regression.with_intervals(apart, samples)
    return found
