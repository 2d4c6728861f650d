"""Segmentation run: split images with masks, train, evaluate once on the test part, write the folder.

The folder holds model.safetensors with model.json that says how to build it, metrics.json, history.json,
predictions.csv, masks/ with a PNG for each test image at its own size, overlay.png to look at,
report.html, and run.json, which says of which run the folder is.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from usbackbones._files import atomic_write, write_csv, write_json, write_png
from usbackbones._run_folder import apart, claim, finish, finished
from usbackbones.data.content import digest_of
from usbackbones.data.dataset import split_items
from usbackbones.data.item import PARTS, DataError, Note
from usbackbones.data.leakage import together, told
from usbackbones.data.patients import Notes, silent, told_patients, unit
from usbackbones.data.seen import write_seen
from usbackbones.hub.licensing import license_for
from usbackbones.hub.torch_checkpoint import sum_of
from usbackbones.metrics.segmentation import Spacing, coco_ap, dice, hd95, iou, mean_interval
from usbackbones.segmentation.config import Segment, build, from_blueprint
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.look import Answers
from usbackbones.segmentation.losses import targets_of
from usbackbones.segmentation.masked import Masked, copies_of, frame_of, mask_of, spacing_of, truth_of
from usbackbones.segmentation.report import ABOUT, Row, Segmented, mask_image, overlay, told_empty, write_segment_report
from usbackbones.segmentation.trainer import Segmenter, at_size, resized


def segment(
    data: Path,
    model: str,
    out: Path,
    spec: Segment | None = None,
    *,
    test: float = 0.2,
    validation: float = 0.2,
    at_most: int = 0,
    pictures: bool = False,
    progress: bool = True,
    group_from: str = "",
    license_name: str = "",
    answers: Answers | None = None,
    note: Note = silent,
) -> Segmented:
    """Train a segmenter on images with masks and evaluate it on groups that it never saw.

    Args:
        data: see `usbackbones.segmentation.dataset`.
        model: of the backbone: `usbackbones/<arch>.<tag>`, any timm name, `local-dir:FOLDER` or `random:ARCH`.
        out: the folder to write; a run that was stopped there goes on.
        spec: how.
        test: share of the groups to evaluate on, where the data do not decide.
        validation: share of the others' groups to stop early on.
        at_most: use no more pictures than this, drawn by the seed; 0 is all.
        pictures: show test pictures and their names in report.html, which is then not to be passed on.
        progress: show bars.
        group_from: a regular expression that finds the group in a file's name, see `read_masked`.
        license_name: of the weights, where the model's source states none; never less strict than the source's.
        answers: to what the masks leave open; classes that are told apart make a U-Net of several classes.
        note: gets each line about the data at once, besides `Segmented.notes`.

    Raises:
        DataError: if the data cannot be read, or split without a leak (of a group, or through near-duplicates).
        BackboneError: if the backbone has not the maps that the head needs.
        UnknownModel, WeightsError, RuntimeError: if the model cannot be loaded.
        LicenseError: if nobody states the license of the weights, or `license_name` allows what their source does not.
    """
    spec = spec or Segment()
    if not (data / "images").is_dir():  # where all that lies below is read
        apart(out, data)
    license_ = license_for(model, license_name)
    notes = Notes(note)
    given = read_masked(data, answers, group_from=group_from, note=notes, progress=progress)
    spec = replace(spec, classes=given[0].meaning.names)
    copies = copies_of(given)
    joined = together(given, copies)
    chosen = np.arange(len(given))
    if 0 < at_most < len(given):
        chosen = np.sort(np.random.default_rng(spec.seed).choice(len(given), at_most, replace=False))
    decided = split_items([joined[i] for i in chosen], test, validation, spec.seed, every_label=False)
    parts = [replace(given[i], group=item.group, part=item.part) for i, item in zip(chosen, decided, strict=True)]
    counts = {}
    for part in PARTS:
        members = [given[i] for i, item in zip(chosen, decided, strict=True) if item.part == part]
        counts[part] = {"images": len(members), "groups": len({item.group for item in members})}
        if not members:
            raise DataError(f"the {part} part of {data} is empty: give more groups, or a larger share")
    weights = sum_of(build(model, spec).state_dict())
    settings = {"model": model, "weights": weights, "spec": asdict(spec), "items": digest_of(parts)}
    if claim(out, "segment", settings | {"pictures": pictures, "license": str(license_)}):
        return finished(Segmented, out)
    run = Segmenter(model, parts, spec, out, progress)
    untrained = run.score("validation")
    run.run()
    tested = [parts[i] for i in run.of["test"]]
    rows = evaluate(tested, run.predict("test"), out)
    notes(told_empty(sum(bool(row["empty"]) for row in rows), len(rows)))
    measured = [metric for metric in rows[0] if metric not in ABOUT and all(metric in row for row in rows)]
    metrics = {metric: mean_of(rows, metric, spec.seed) for metric in measured}
    coco = _coco(run, tested) if spec.head == "mask_rcnn" else {}
    kept = max(record["validation"] for record in run.history) if spec.keep == "best" else run.history[-1]["validation"]
    copied = told(given, copies, labelled=False)
    done = Segmented(
        out, metrics, coco, counts, run.epoch, untrained, kept, copied, told_patients(given), unit(given),
        tuple(notes.lines), license=str(license_),
    )  # fmt: skip
    _write(run, done, rows)
    trained = [item for item in parts if item.part != "test"]
    write_seen(out, (item.path for item in trained), map(frame_of, trained))
    sheet = overlay(tested, rows, out)
    write_png(out / "overlay.png", sheet)
    write_segment_report(run, done, np.asarray(sheet), pictures)
    finish(out)
    run.remove_checkpoint()
    return done


def evaluate(items: list[Masked], probabilities: Iterable[np.ndarray], out: Path) -> list[Row]:
    """Metrics of each image at its own size; the only place where masks of the test part are evaluated.

    `probabilities` are what `Segmenter.predict` yields; masks go to `out / "masks"` as PNG. Of each image what `ABOUT`
    names, its mask's file in `out` last, and the metrics.
    """
    rows = []
    for number, (item, p) in enumerate(zip(items, probabilities, strict=True)):
        height, width = frame_of(item).shape
        found, truth = at_size(p, (height, width)), truth_of(item, (height, width))
        row: Row = {"path": str(item.path), "frame": item.frame, "group": item.group, "empty": not truth.any()}
        rows.append(row | compared(found, truth, item.meaning.names, spacing_of(item)))
        rows[-1]["mask"] = f"masks/{number:04d}_{item.path.stem}.png"
        write_png(out / str(rows[-1]["mask"]), mask_image(found))
    return rows


def compared(found: np.ndarray, truth: np.ndarray, classes: Sequence[str], spacing: Spacing | None) -> Row:
    """Metrics of an image, bool or labels [H, W]: means over its classes, and the Dice of each of several.

    `spacing` is height and width of a pixel in mm; None where it is not known.
    """
    pairs = [(found == number, truth == number) for number in range(1, len(classes) + 1)]
    row: Row = {"dice": _mean(dice(*pair) for pair in pairs), "iou": _mean(iou(*pair) for pair in pairs)}
    row["hd95_pixels"] = _mean(hd95(*pair) for pair in pairs)
    if spacing:
        row["hd95_mm"] = _mean(hd95(*pair, spacing) for pair in pairs)
    if len(classes) > 1:
        row |= {f"dice_{name}": dice(*pair) for name, pair in zip(classes, pairs, strict=True)}
    return row


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def mean_of(rows: Sequence[Row], metric: str, seed: int) -> dict[str, float]:
    """The mean of a metric over images, with its interval over groups."""
    return mean_interval(np.array([float(row[metric]) for row in rows]), [str(row["group"]) for row in rows], seed=seed)


def _coco(run: Segmenter, items: list[Masked]) -> dict[str, float]:
    """Average precision of all that a detector finds in the test pictures, at the training size."""
    truths = (mask_of(item, cast(tuple[int, int], frame_of(item).shape)) for item in items)
    targets = (targets_of(torch.from_numpy(resized(truth, run.spec.size))) for truth in truths)
    return coco_ap(zip(run.detect("test"), targets, strict=True))


def load_segmenter(folder: Path | str) -> nn.Module:
    """The trained network of a folder, in eval mode; the weight that it began with is not needed.

    `usbackbones.transforms(model)` makes its input as in training; `segmentation.losses.foreground` gives its masks.

    Raises:
        DataError: if it is no folder of `segment`, or of a version that did not write all that is needed.
    """
    folder = Path(folder)
    file = folder / "model.json"
    if not file.is_file():
        raise DataError(f"{folder}: no segmenter there, it lacks a model.json: give the folder that segment wrote")
    settings = json.loads(file.read_text(encoding="utf-8"))
    if "blueprint" not in settings or settings["spec"].keys() != {field.name for field in fields(Segment)}:
        raise DataError(f"{file} is of another version, without all that is needed: train again, into another folder")
    model = build(from_blueprint(settings["blueprint"]), Segment(**settings["spec"]))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def _write(run: Segmenter, done: Segmented, rows: list[Row]) -> None:
    out = done.folder
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in run.model.state_dict().items()}
    with atomic_write(out / "model.safetensors") as stream:
        stream.write(save(tensors))
    settings = {"model": run.name, "spec": asdict(run.spec), "license": done.license}
    settings["masks"] = asdict(run.items[0].meaning)
    names = list(run.spec.classes)
    channels = {"classes": names if len(names) == 1 else ["background", *names]}
    built = {"blueprint": run.blueprint, "pretrained_cfg": run.model.pretrained_cfg}
    write_json(out / "model.json", settings | channels | built)
    write_json(out / "metrics.json", asdict(done) | {"folder": str(out)} | settings)
    write_json(out / "history.json", run.history)
    header = ["path", "frame", "group", *done.metrics, "mask"]
    write_csv(out / "predictions.csv", header, [[row.get(key, "") for key in header] for row in rows])
