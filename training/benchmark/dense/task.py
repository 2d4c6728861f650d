"""Segmentation tasks: images with masks, in a part for choices and a part that is locked.

The locked part of a task is that of its dataset, as in `training.benchmark.tasks`. A task lists files and opens none.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from training.benchmark.task import Measure, parted
from training.benchmark.tasks import head_measures, rows_of
from training.data.corpora.record import present
from training.data.errors import CorpusError
from training.data.locked_splits import locked_groups
from training.data.manifest import Row
from usbackbones.data.splits import assert_disjoint, holdout
from usbackbones.metrics.segmentation import Spacing
from usbackbones.segmentation.config import Segment
from usbackbones.segmentation.mask_values import BRIGHT, Meaning
from usbackbones.segmentation.masked import Masked

HC18_SIZE = (540, 800)
"""Height and width of HC18's originals, whose pixels the table of sizes is about; copies of it may be smaller."""
INNER_FRACTION = 0.25


@dataclass(frozen=True, eq=False)
class DenseTask:
    """A task with masks and a locked test part.

    Attributes:
        name: of the task.
        rows: pictures of the part that may be used for training and for every choice.
        test_rows: pictures that are evaluated on.
        measures: of HC18's heads the circumference in pixels of the original and the mm of such a pixel, by clip.
        structures: what the masks tell apart, each with its value there; of none all that is bright is meant.
        about: a sentence on what the task can show, and what it cannot.
    """

    name: str
    rows: tuple[Row, ...]
    test_rows: tuple[Row, ...]
    measures: Mapping[str, Measure] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    about: str = ""

    def __post_init__(self) -> None:
        assert_disjoint((row.group for row in self.rows), (row.group for row in self.test_rows))
        for side, rows in (("pretraining", self.rows), ("test", self.test_rows)):
            if not rows:
                raise CorpusError(f"the {side} part of {self.name} is empty: its folder holds too few pictures")
        unmeasured = [
            row.clip for row in (*self.rows, *self.test_rows) if self.measures and row.clip not in self.measures
        ]
        if unmeasured:
            raise CorpusError(f"{self.name}: nothing was measured on {', '.join(unmeasured[:5])}")

    @property
    def classes(self) -> tuple[str, ...]:
        """What a U-Net finds."""
        return tuple(self.structures) or BRIGHT.names

    def inner(self, seed: int = 0) -> "DenseTask":
        """A task inside the pretraining part: a quarter of its groups stands in for the locked ones, which are gone."""
        groups = [row.group for row in self.rows]
        _, held = holdout(groups, [row.label for row in self.rows], INNER_FRACTION, seed)
        kept, evaluated = parted(self.rows, held)
        return replace(self, rows=kept, test_rows=evaluated)

    def items(self) -> list[Masked]:
        """Pictures to learn from, as the part "train", then those to be evaluated on, as "test"."""
        known = {0: 0} | {value: number for number, value in enumerate(self.structures.values(), 1)}
        levels = tuple(sorted(known))
        meaning = Meaning(levels, tuple(known[level] for level in levels), self.classes) if self.structures else BRIGHT
        return [
            Masked(Path(row.path), row.label, row.group, part, tuple(map(Path, row.masks)), meaning=meaning)
            for part, rows in (("train", self.rows), ("test", self.test_rows))
            for row in rows
        ]

    def spacing(self, row: Row, shape: tuple[int, int]) -> Spacing | None:
        """Height and width in mm of a pixel of a picture of this shape, where a table of the dataset tells."""
        if row.clip not in self.measures:
            return None
        pixel = self.measures[row.clip].unit
        return pixel * HC18_SIZE[0] / shape[0], pixel * HC18_SIZE[1] / shape[1]


@dataclass(frozen=True)
class DenseProtocol:
    """How a row of the table is made; the budget is the same for all rows, and the last epoch counts.

    Attributes:
        part: "test" evaluates on the locked part, "inner" on a quarter of the other groups.
        encoder: "frozen" trains the decoder alone, "tuned" everything at one rate.
        size: side of the square that pictures are squashed to, a multiple of 32.
        epochs: passes over the pictures.
        batch: pictures in a batch.
        lr: peak rate.
        seeds: U-Nets of each row; of a random row also the encoder differs.
        resamples: of the bootstrap over groups.
        seed: of the inner division and the bootstrap.
    """

    part: Literal["inner", "test"] = "inner"
    encoder: Literal["frozen", "tuned"] = "tuned"
    size: int = 224
    epochs: int = 10
    batch: int = 8
    lr: float = 1e-3
    seeds: int = 5
    resamples: int = 2000
    seed: int = 0

    def spec(self, seed: int, classes: tuple[str, ...] = BRIGHT.names) -> Segment:
        """The settings of one U-Net that finds some classes."""
        frozen: int | Literal["all"] = "all" if self.encoder == "frozen" else -1
        return Segment(
            size=self.size, epochs=self.epochs, batch=self.batch, lr=self.lr, layer_decay=1.0, frozen=frozen,
            keep="last", seed=seed, classes=classes,
        )  # fmt: skip


def masked_rows(dataset: str, data: Path) -> list[Row]:
    """The pictures of a dataset that have a mask; of CAMUS as stills every still with its own."""
    if dataset != "camus" or not (data / dataset / "groups.csv").is_file():
        return [row for row in rows_of(dataset, data) if row.mask]
    return [
        replace(row, clip=f"{row.clip}_{number}", path=path, mask=mask)
        for row in rows_of(dataset, data)
        for number, path in enumerate(row.paths)
        if (mask := present(data / dataset / "mask" / f"{Path(path).stem}.png"))
    ]


def first_by_hash(rows: Sequence[Row], most: int) -> tuple[Row, ...]:
    """At most so many of the pictures, those of the groups first that a hash of their name puts first."""
    order = {row.group: hashlib.sha256(f"{row.source}/{row.group}".encode()).digest() for row in rows}
    kept = {row.clip for row in sorted(rows, key=lambda row: order[row.group])[:most]}
    return tuple(row for row in rows if row.clip in kept)


def _task(
    dataset: str, name: str, about: str = "", structures: Mapping[str, int] | None = None
) -> Callable[[Path], DenseTask]:
    """A task of one dataset: its pictures that have a mask."""

    def build(data: Path) -> DenseTask:
        rows = masked_rows(dataset, data)
        if not rows:
            raise CorpusError(f"{data / dataset} holds no masks, which {name} is about: get the copy with masks")
        test = locked_groups(dataset, {row.group for row in rows})
        measures = head_measures(data) if dataset == "hc18" else {}
        return DenseTask(name, *parted(rows, test), measures, structures or {}, about)

    return build


_RULE = "Its locked part follows the rule of training.data.locked_splits, not a split of its authors."
DENSE_TASKS: Mapping[str, Callable[[Path], DenseTask]] = {
    "busi_lesion": _task(
        "busi",
        "busi_lesion",
        about="Stills that show a lesion; near-duplicates are one group. Calipers and text stand on some stills.",
    ),
    "hc18_head": _task(
        "hc18", "hc18_head", about="The circumference is that of an ellipse with the area and moments of the mask."
    ),
    "udiat_b_lesion": _task("udiat_b", "udiat_b_lesion", about=_RULE),
    "tn3k_nodule": _task("tn3k", "tn3k_nodule", about=_RULE),
    "camus_structures": _task(
        "camus",
        "camus_structures",
        "Heart at end diastole and end systole, of the published set in the first frame of a sequence; Dice and "
        f"distance are means over cavity and wall of the left ventricle and the left atrium. {_RULE}",
        {"cavity": 1, "myocardium": 2, "atrium": 3},
    ),
}
"""The tasks by name; all but the first two are of datasets whose locked part follows the rule."""


def load_dense_task(name: str, data: Path, most: int = 0) -> DenseTask:
    """The task of this name in `DENSE_TASKS`, on the datasets' folders in `data`.

    At most `most` pictures are learned from, of whole groups but the last, by a hash of their names; 0 is all.

    Raises:
        CorpusError: if there is no such task, or its data are not there or laid out differently.
        OSError: if the locked part of a dataset has not been drawn.
        ValueError: if a group is on neither side of a locked split, or on both.
    """
    if name not in DENSE_TASKS:
        raise CorpusError(f"no dense task named {name!r}; there is: {', '.join(DENSE_TASKS)}")
    task = DENSE_TASKS[name](data)
    return replace(task, rows=first_by_hash(task.rows, most)) if most else task
