"""The tasks by name, each built from a folder of datasets; what a task can show stands beside its definition.

The locked part of a task is that of its dataset: the committed split, or the rule of `training.data.locked_splits` for
datasets that are not at hand. Those are read by their published layout.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.benchmark.task import Measure, Task, parted
from training.data.corpora import CORPORA
from training.data.corpora.record import read_csv
from training.data.errors import CorpusError
from training.data.locked_splits import joined, locked_groups
from training.data.manifest import Row

LUNG_CLASSES = {"covid": "covid", "bacterial_pneumonia": "pneumonia", "regular": "regular"}
"""The dataset's label -> the task's class. Clips with another label, as viral pneumonia, are not in the task."""
ORGANS = {
    "pocus_lung": "lung",
    "timtrack_muscle": "muscle",
    "hc18": "fetal head",
    "busi": "breast",
    "gallbladder_ba": "gallbladder",
}
GROUPS_AN_ORGAN = 200
"""Most groups of an organ, so that the largest dataset does not decide what the task costs and measures."""


def lung_task(data: Path, cache: Path = Path("cache")) -> Task:
    """Covid, (bacterial) pneumonia or regular, from the videos of the POCUS lung collection."""
    rows = [
        replace(row, label=LUNG_CLASSES[row.label]) for row in rows_of("pocus_lung", data) if row.label in LUNG_CLASSES
    ]
    about = "Class and clinic are confounded: a part of what separates the classes may be scanners."
    return _task("pocus_lung", rows, cache, tuple(LUNG_CLASSES.values()), about=about)


def busi_task(data: Path, cache: Path = Path("cache")) -> Task:
    """Benign, malignant or normal breast stills; stills that are near-duplicates are one group."""
    about = "Patients are not known: a group is a set of near-duplicates. Calipers and text stand on some stills."
    return _task("busi", rows_of("busi", data), cache, ("benign", "malignant", "normal"), about=about)


def gallbladder_task(data: Path, cache: Path = Path("cache")) -> Task:
    """Biliary atresia or not; the locked part is the authors' own test part, from other hospitals."""
    about = "The locked part comes from other hospitals than the part that is fitted on. Crops of 60 x 60 pixels."
    classes = ("biliary_atresia", "not_biliary_atresia")
    return _task("gallbladder_ba", rows_of("gallbladder_ba", data), cache, classes, size=64, about=about)


def organ_task(data: Path, cache: Path = Path("cache")) -> Task:
    """Lung, muscle, fetal head, breast or gallbladder: one clip a group, at most `GROUPS_AN_ORGAN` groups each."""
    rows, test = [], set()
    for name, organ in ORGANS.items():
        kept = _one_a_group(rows_of(name, data))
        test |= {f"{name}/{group}" for group in locked_groups(name, {row.group for row in kept})}
        rows += [replace(row, label=organ, group=f"{name}/{row.group}") for row in kept]
    about = (
        "Each organ is a dataset, and each dataset has its own scanners, cropping and compression: a high score shows "
        "that features tell the datasets apart, not that they know anatomy; only a low one says much. All frames are "
        "brought to 60 x 60 pixels, the size of the smallest, so that sharpness does not give the dataset away."
    )
    return _split("organ", rows, test, cache, tuple(ORGANS.values()), size=60, at_most=3, about=about)


def head_task(data: Path, cache: Path = Path("cache")) -> Task:
    """The circumference of the fetal heads of HC18, predicted in pixels of the original and told in mm."""
    measures = head_measures(data)
    about = "What is measured is the size in the picture: the scanner's pixel size is given, as it is to a clinician."
    return _task("hc18", rows_of("hc18", data), cache, (), kind="number", measures=measures, about=about)


def head_measures(data: Path) -> dict[str, Measure]:
    """The circumference of every head of HC18 in pixels of the original, and the mm of such a pixel."""
    columns = ("filename", "pixel size(mm)", "head circumference (mm)")
    measures = {}
    for record in read_csv(data / "hc18" / "training_set_pixel_size_and_HC.csv", columns):
        name, pixel, millimetres = (record[column] for column in columns)
        measures[f"hc18/{Path(name).stem}"] = Measure(float(millimetres) / float(pixel), float(pixel))
    return measures


def public_task(name: str, classes: tuple[str, ...], label: str = "label") -> Callable[[Path, Path], Task]:
    """A dataset whose locked part follows the rule; clips of other classes, or of none, are left out."""

    def build(data: Path, cache: Path = Path("cache")) -> Task:
        rows = [
            replace(row, label=getattr(row, label)) for row in rows_of(name, data) if getattr(row, label) in classes
        ]
        about = "Its locked part follows the rule of training.data.locked_splits, not a split of its authors."
        return _task(name, rows, cache, classes, about=about)

    build.__doc__ = f"{', '.join(classes)}, from {name}."
    return build


TASKS: Mapping[str, Callable[[Path, Path], Task]] = {
    "lung": lung_task,
    "busi": busi_task,
    "gallbladder": gallbladder_task,
    "organ": organ_task,
    "hc18": head_task,
    "fetal_planes": public_task(
        "fetal_planes_db",
        ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other"),
    ),
    "bus_bra": public_task("bus_bra", ("benign", "malignant")),
    "bus_uclm": public_task("bus_uclm", ("benign", "malignant", "normal")),
    "udiat_b": public_task("udiat_b", ("benign", "malignant")),
    "tn3k": public_task("tn3k", ("benign", "malignant")),
    "camus": public_task("camus", ("apical 2-chamber", "apical 4-chamber"), "anatomy"),
}


def load_task(name: str, data: Path, cache: Path = Path("cache")) -> Task:
    """The task of this name in `TASKS`, on the datasets' folders in `data`; the cache gets decoded frames.

    Raises:
        CorpusError: if there is no such task, or its data are not there or laid out differently.
        OSError: if the locked part of a dataset has not been drawn.
        ValueError: if a group is on neither side of a locked split, or on both.
    """
    if name not in TASKS:
        raise CorpusError(f"no task named {name!r}; there is: {', '.join(TASKS)}")
    return TASKS[name](data, cache)


def rows_of(name: str, data: Path) -> list[Row]:
    """The clips of a dataset; groups that near-duplicates tie together go by one name."""
    leaders = joined(name)
    return [replace(row, group=leaders.get(row.group, row.group)) for row in CORPORA[name].rows(data / name)]


def _task(name: str, rows: list[Row], cache: Path, classes: tuple[str, ...], **fields: Any) -> Task:
    """A task of one dataset."""
    if not rows:
        raise CorpusError(f"{name}: no clip has one of the labels {', '.join(classes)}")
    return _split(name, rows, locked_groups(name, {row.group for row in rows}), cache, classes, **fields)


def _split(name: str, rows: list[Row], test: set[str], cache: Path, classes: tuple[str, ...], **fields: Any) -> Task:
    return Task(name, classes, *parted(rows, test), cache, **fields)


def _one_a_group(rows: Iterable[Row]) -> list[Row]:
    """The first clip of each group, of the groups that a hash of their name puts first."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.group, row)
    order = sorted(first, key=lambda group: hashlib.sha256(group.encode()).digest())
    return [first[group] for group in order[:GROUPS_AN_ORGAN]]
