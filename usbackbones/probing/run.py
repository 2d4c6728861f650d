"""Probing run: evaluate frozen backbones on labelled clips; write metrics.json, predictions.csv and report.html."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from usbackbones._files import write_csv, write_json
from usbackbones._run_folder import claim, finish, finished
from usbackbones.data.content import digest_of
from usbackbones.data.frames import Frames
from usbackbones.data.item import Item, Note
from usbackbones.data.leakage import copies_among, together, told
from usbackbones.data.patients import silent
from usbackbones.data.targets import Kind, as_one_class
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.probing.evaluate import Evaluation, Probed, ProbeSpec, divisions, evaluate
from usbackbones.probing.null_rows import NullRows
from usbackbones.probing.report import write_probe_report


def probe(
    items: Sequence[Item],
    models: dict[str, nn.Module],
    out: Path,
    spec: ProbeSpec | None = None,
    target: Kind = "class",
    *,
    progress: bool = True,
    pictures: bool = False,
    note: Note = silent,
) -> Probed:
    """Evaluate frozen backbones and write metrics.json, predictions.csv and report.html into a folder.

    Args:
        items: from `dataset.read_items`.
        models: by the name to show, any timm models; on whatever device they are.
        out: the folder; new, empty, or of this very run.
        spec: how.
        target: "class" for kNN and linear probes, "number" for ridge probes of labels that are numbers.
        progress: show bars.
        pictures: show frames and names of files and groups in report.html, which is then not to be passed on.
        note: gets lines to show about the data.

    Raises:
        DataError: if the data cannot be divided without a leak (of a group, or through near-duplicates), or nothing
            can be read.
        FolderTaken: if the folder holds another run or something else.
    """
    spec = spec or ProbeSpec()
    labeled = list(items) if target == "class" else as_one_class(items)
    divisions(labeled, spec.folds, spec.seed)  # what is wrong with them is reported before anything is decoded
    settings = {
        "models": {name: sum_of(model.state_dict()) for name, model in models.items()},
        "spec": asdict(spec),
        "target": target,
        "items": digest_of(items),
        "pictures": pictures,
    }
    if claim(out, "probe", settings):
        return finished(Probed, out)
    with tempfile.TemporaryDirectory(dir=out, prefix=".frames") as scratch:
        nulls = NullRows(item.path for item in items)
        file = Path(scratch) / "frames.u8"
        frames = Frames(items, file, spec.per_clip, progress=progress, seen=nulls.seen, clean=spec.clean)
        if warned := frames.told_warnings():
            note(warned)
        pairs = copies_among(items, frames, progress)
        whole = together(labeled, pairs)
        values = None if target == "class" else np.array([float(item.label) for item in items])
        found = evaluate(whole, frames, models, spec, values, progress, items)
        found.done.joined = told(items, pairs)
        if lacking := [name for name in found.done.classes if name not in found.done.counts]:
            note(f"no item of {', '.join(lacking)} is evaluated: means over classes are over the others")
        if target == "class":
            name, parts = next(iter(models)), divisions(whole, spec.folds, spec.seed)
            clip, (linear, *_) = found.rows.clip[found.order], found.predicted[name]["linear"]
            found.done.beside = nulls.line(name, whole, clip, linear, parts, spec.seed)
        write_json(out / "metrics.json", asdict(found.done) | {"spec": asdict(spec)})
        _write_predictions(out / "predictions.csv", items, whole, found)
        write_probe_report(out / "report.html", whole, frames, found, pictures)
    finish(out)
    return found.done


def _write_predictions(file: Path, items: Sequence[Item], whole: Sequence[Item], found: Evaluation) -> None:
    """One row an item, model and probe: the mean over the item's frames, and over repeats where there are several.

    Labels are those of `items`, groups those of `whole`, in which they were evaluated.
    """
    classes, owner = found.rows.classes, found.rows.clip[found.order]
    table: list[list[object]] = []
    for model, of_probe in found.predicted.items():
        for kind, members in of_probe.items():
            mean_over_repeats = np.mean(members, axis=0)
            for number in np.unique(owner):
                mean = mean_over_repeats[owner == number].mean(0)
                shown = [classes[int(mean.argmax())], *(f"{p:.4f}" for p in mean)] if classes else [f"{mean:.6g}"]
                table.append([items[number].path, whole[number].group, items[number].label, model, kind, *shown])
    header = ["path", "group", "label", "model", "probe", "predicted", *(f"prob_{name}" for name in classes)]
    write_csv(file, header, table)
