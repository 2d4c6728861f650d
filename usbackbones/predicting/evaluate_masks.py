"""Evaluation of a segmenter: Dice and area of each structure by image and patient, masks, and a sheet to look at."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from usbackbones._files import write_png
from usbackbones.data.item import DataError
from usbackbones.data.patients import told_patients, unit
from usbackbones.features.ahead import loaded
from usbackbones.metrics.levels import metrics as metrics_of
from usbackbones.metrics.segmentation import dice, hd95, iou, mean_interval
from usbackbones.predicting.areas import areas
from usbackbones.predicting.evaluate import Asked, Evaluated, told_seen
from usbackbones.predicting.masks import MaskWriter
from usbackbones.predicting.report import mask_sections, write_evaluation_report
from usbackbones.predicting.results import write_results
from usbackbones.predicting.subgroups import columns_of, subgroups
from usbackbones.predicting.trained import Trained
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.look import Answers
from usbackbones.segmentation.mask_values import COLOR
from usbackbones.segmentation.masked import Masked, frame_of, labels_of, spacing_of
from usbackbones.segmentation.report import Row, mask_image, overlay, told_empty
from usbackbones.segmentation.trainer import at_size


def evaluate_masks(trained: Trained, asked: Asked) -> Evaluated:
    """See `evaluate`."""
    notes: list[str] = []
    columns = columns_of(asked.data, asked.by, "image")
    several = len(trained.classes) > 1
    values = asked.classes or (_values_of(trained) if several and not asked.foreground else "")
    answers = Answers(asked.foreground, values, asked.resize_masks)
    given = read_masked(asked.data, answers, group_from=asked.group_from, note=notes.append, progress=asked.progress)
    items, shown = _of_the_model(given, trained, asked)
    names = [trained.classes[number - 1] for number in shown]
    if lacking := [name for name in trained.classes if name not in names]:
        notes.append(f"{', '.join(lacking)} not evaluated: --classes does not name it")
    writer = MaskWriter(asked.out, trained)
    seen = 0
    rows: list[Row] = []
    for item, probability, known in tqdm(
        _predicted(items, writer, trained, asked.batch), "predicting", len(items), disable=not asked.progress
    ):
        seen += known
        found = at_size(probability, (frame_of(item).shape[0], frame_of(item).shape[1]))
        name = f"masks/{len(rows):05d}_{item.path.stem[:100]}.png"
        rows.append(_row(item, found, trained, shown) | {"mask": name})
        write_png(asked.out / name, mask_image(found))
    groups = np.array([item.group for item in items])
    area = "mm2" if all("hd95_mm" in row for row in rows) else "pixels"
    if area == "pixels" and any("hd95_mm" in row for row in rows):
        notes.append("the size of a pixel is not known of every image: areas and distances are in pixels")
    kept = ["dice", "iou", "hd95_pixels", *(["hd95_mm"] if area == "mm2" else [])]
    value = {metric: np.array([float(row[metric]) for row in rows]) for metric in kept}
    levels = {"image": {metric: mean_interval(value[metric], groups, seed=asked.seed) for metric in kept}}
    if unit(items):
        of, number = np.unique(groups, return_inverse=True)
        by_patient = {metric: np.bincount(number, value[metric]) / np.bincount(number) for metric in kept}
        levels["patient"] = {metric: mean_interval(by_patient[metric], of, seed=asked.seed) for metric in kept}
    pairs = {
        name: tuple(np.array([float(row[f"{what}area_{area}_{name}"]) for row in rows]) for what in ("true_", ""))
        for name in names
    }
    structures = {}
    for name, (truth, predicted) in pairs.items():
        own = np.array([float(row[f"dice_{name}"]) for row in rows])
        agreement = metrics_of(truth, predicted, np.arange(len(rows)), groups, asked.seed)["frame"]
        structures[name] = {"dice": mean_interval(own, groups, seed=asked.seed)}
        structures[name] |= {f"area_{metric}": numbers for metric, numbers in agreement.items()}
    empty = sum(not any(row[f"true_area_pixels_{name}"] for name in names) for row in rows)
    notes += filter(None, [told_empty(empty, len(rows))])
    told = {} if trained.seen() is None else {"seen": seen}
    notes += told_seen(told.get("seen"), len(rows), "image")
    done = Evaluated(
        asked.out, "masks", "dice", levels,
        subgroups(columns, [item.path for item in items], groups, "images",
                  lambda own: mean_interval(value["dice"][own], groups[own], seed=asked.seed)),
        {"images": len(rows), "groups": len(set(groups))} | told,
        tuple(notes), unit(items), structures=structures, license=trained.license,
    )  # fmt: skip
    sheet = overlay(items, rows, asked.out)
    write_png(asked.out / "overlay.png", sheet)
    writer.write_legend()
    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key, "")) for key in header] for row in rows]
    write_results(done, trained, header, cells, asked.command)
    facts = {"images": str(len(rows)), "groups": told_patients(items)}
    sections = mask_sections(done, {name: (pair[0], pair[1]) for name, pair in pairs.items()}, area, np.asarray(sheet))
    write_evaluation_report(done, trained, asked, facts, sections)
    return done


def _values_of(trained: Trained) -> str:
    """The values of the structures in the masks of the training, as --classes takes them; "" where nobody knows."""
    assert trained.folder
    told = json.loads((trained.folder / "model.json").read_text(encoding="utf-8")).get("masks")
    pairs = zip(told["levels"], told["classes"], strict=True) if told else ()
    written = ((f"#{level - COLOR:06x}" if level >= COLOR else str(level), number) for level, number in pairs)
    return ",".join(f"{trained.classes[number - 1]}={value}" for value, number in written if number)


def _of_the_model(items: Sequence[Masked], trained: Trained, asked: Asked) -> tuple[list[Masked], list[int]]:
    """The items with the model's numbers of their structures, and those that the masks tell apart."""
    names, own = items[0].meaning.names, trained.classes
    if len(names) == len(own) == 1:
        return [replace(item, meaning=replace(item.meaning, names=own)) for item in items], [1]
    if strangers := [name for name in names if name not in own]:
        raise DataError(
            f"the masks of {asked.data} are {', '.join(strangers)}; the model draws {', '.join(own)}: --classes "
            f"{','.join(f'{name}=VALUE' for name in own)} says which value is which"
        )
    number_of = [0, *(own.index(name) + 1 for name in names)]
    meaning = items[0].meaning
    meaning = replace(meaning, classes=tuple(number_of[c] for c in meaning.classes), names=own)
    return [replace(item, meaning=meaning) for item in items], sorted(number_of[1:])


def _predicted(
    items: Sequence[Masked], writer: MaskWriter, trained: Trained, batch: int
) -> Iterator[tuple[Masked, np.ndarray, bool]]:
    """Each item with its probabilities, and whether the model was trained on it."""
    seen = trained.seen()

    def read() -> Iterator[tuple[Sequence[Masked], list[bool], list[np.ndarray]]]:
        for start in range(0, len(items), batch):
            some = items[start : start + batch]
            frames = [frame_of(item) for item in some]
            known = [seen is not None and seen.has(item.path, frame) for item, frame in zip(some, frames, strict=True)]
            yield some, known, frames

    for (some, known, _), (gray,) in loaded(read(), lambda part: (writer.read(part[2]),), writer.device):
        yield from zip(some, writer.probabilities(gray), known, strict=True)


def _row(item: Masked, found: np.ndarray, trained: Trained, shown: Sequence[int]) -> Row:
    """The metrics of an image: means over the structures that are shown, and the Dice and areas of each."""
    truth = labels_of(item, (found.shape[0], found.shape[1]))
    spacing, count = spacing_of(item), len(trained.classes)
    pairs = {trained.classes[number - 1]: (found == number, truth == number) for number in shown}
    row: Row = {"path": str(item.path), "frame": item.frame, "group": item.group}
    row["dice"] = float(np.mean([dice(*pair) for pair in pairs.values()]))
    row["iou"] = float(np.mean([iou(*pair) for pair in pairs.values()]))
    row["hd95_pixels"] = float(np.mean([hd95(*pair) for pair in pairs.values()]))
    if spacing:
        row["hd95_mm"] = float(np.mean([hd95(*pair, spacing) for pair in pairs.values()]))
    for what, mask in (("", found), ("true_", truth)):
        sizes = areas(mask, count, spacing).reshape(count, 2)
        for number in shown:
            row[f"{what}area_pixels_{trained.classes[number - 1]}"] = float(sizes[number - 1, 0])
            if spacing:
                row[f"{what}area_mm2_{trained.classes[number - 1]}"] = float(sizes[number - 1, 1])
    return row | {f"dice_{name}": dice(*pair) for name, pair in pairs.items()}


def _cell(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
