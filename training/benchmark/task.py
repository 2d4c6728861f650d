"""Tasks: clips in a part for choices and a part that is locked.

A `Task` decodes each part on its own and only when it is asked for, so a study that never asks for `test` never opens
a test clip.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from training.data.clip_of_row import read_path
from training.data.manifest import Row
from usbackbones._evenly import evenly
from usbackbones._files import atomic_write
from usbackbones.data.splits import assert_disjoint

Kind = Literal["classes", "number"]
"""What is asked of a frame: which of some classes, or how large something is."""


def parted(rows: Iterable[Row], test: Collection[str]) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The clips of all groups but those of the test part, and the clips of these."""
    rows = tuple(rows)
    return tuple(row for row in rows if row.group not in test), tuple(row for row in rows if row.group in test)


class Measure(NamedTuple):
    """What was measured on a clip: `value` in the picture's own unit (pixels), of which one is `unit` (mm)."""

    value: float
    unit: float


@dataclass(frozen=True, eq=False)
class Part:
    """The frames of one side of a split, clip after clip.

    Attributes:
        frames: uint8 [N, S, S], gray.
        label: int [N], index into the task's classes, or float [N], what was measured; one for all frames of a clip.
        clip: str [N], which clip the frame is from.
        group: str [N], which patient or source the clip is from.
        unit: float [N], what one of a measured label is in the unit that errors are told in; 1 for classes.
    """

    frames: np.ndarray
    label: np.ndarray
    clip: np.ndarray
    group: np.ndarray
    unit: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many groups, clips and frames there are."""
        return {"groups": len(set(self.group)), "clips": len(set(self.clip)), "frames": len(self.frames)}


@dataclass(frozen=True, eq=False)
class Task:
    """A task with a locked test part.

    Attributes:
        name: of the task.
        classes: names of the classes; a label is an index into them. Empty where something is measured.
        rows: the clips of the part that may be used for training and for every choice.
        test_rows: the clips of the locked part.
        cache: folder for decoded frames.
        size: frames are squashed to size x size pixels, then each model's own transform takes over.
        per_second: frames taken of a second of video, evenly.
        at_most: most frames taken of a clip.
        kind: what is asked of a frame.
        measures: of each clip, where something is measured.
        about: a sentence on what the task can show, and what it cannot.
    """

    name: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    test_rows: tuple[Row, ...]
    cache: Path
    size: int = 224
    per_second: float = 3.0
    at_most: int = 30
    kind: Kind = "classes"
    measures: Mapping[str, Measure] = field(default_factory=dict)
    about: str = ""

    def __post_init__(self) -> None:
        assert_disjoint((row.group for row in self.rows), (row.group for row in self.test_rows))
        assert_disjoint((row.path for row in self.rows), (row.path for row in self.test_rows), "clip")
        for side, rows in (("pretraining", self.rows), ("test", self.test_rows)):
            missing = set(self.classes) - {row.label for row in rows}
            if missing and rows:
                raise ValueError(f"the {side} part of {self.name} has no clip of {', '.join(sorted(missing))}")
            unmeasured = [row.clip for row in rows if self.kind == "number" and row.clip not in self.measures]
            if unmeasured:
                raise ValueError(f"{self.name}: nothing was measured on {', '.join(unmeasured[:5])}")

    @cached_property
    def pretrain(self) -> Part:
        """The part that choices are made on; decoded at first use, then kept."""
        return self._load(self.rows)

    @cached_property
    def test(self) -> Part:
        """The locked part; decoded at first use, then kept."""
        return self._load(self.test_rows)

    def holding_out(self, groups: Collection[str]) -> "Task":
        """A task inside the pretraining part, in which these of its groups stand in for the locked ones.

        For choices about pretraining: a backbone whose pretraining left these groups out is evaluated on clips that it
        never saw, by the protocol of the locked part, while the locked part stays shut.

        Raises:
            ValueError: if a group is not in the pretraining part, or a class is missing from either side.
        """
        strangers = set(groups) - {row.group for row in self.rows}
        if strangers:
            raise ValueError(f"not in the pretraining part of {self.name}: {', '.join(sorted(strangers))}")
        kept, held = parted(self.rows, groups)
        return replace(self, rows=kept, test_rows=held)

    def unseen(self, seen: Collection[tuple[str, str]]) -> "Task":
        """All clips of groups that nobody was pretrained on, locked ones too, as one part to cross-validate on.

        For a small set, of which the locked part alone tells little. There is no test part then.

        Args:
            seen: (source, group) of what any weight of the table was pretrained on.
        """
        rows = tuple(
            row
            for row in (*self.rows, *self.test_rows)
            if (row.source, row.group.removeprefix(f"{row.source}/")) not in seen
        )
        if not rows:
            raise ValueError(f"every group of {self.name} was pretrained on: none is left to evaluate on")
        return replace(self, name=f"{self.name}_unseen", rows=rows, test_rows=())

    def _load(self, rows: tuple[Row, ...]) -> Part:
        """Decode the clips, or take them from the cache file whose name is the hash of all that decides them."""
        description = {
            "clips": [asdict(row) | {"path": "", "mask": "", "bytes": _bytes(row)} for row in rows],
            "measures": [self.measures.get(row.clip) for row in rows],
            **{name: getattr(self, name) for name in ("classes", "size", "per_second", "at_most", "kind")},
        }
        key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        file = self.cache / f"{self.name}-{key}.npz"
        if not file.is_file():
            part = self._decode(rows)
            with atomic_write(file) as stream:
                np.savez(stream, **vars(part))
        with np.load(file) as arrays:
            return Part(**arrays)

    def _decode(self, rows: tuple[Row, ...]) -> Part:
        """Read every clip; a broken one is an error, for a table without it would be another benchmark's."""
        clips = [self._frames(row.path) for row in tqdm(rows, desc=f"decoding {self.name}", unit="clip")]
        counts = [len(frames) for frames in clips]
        if self.kind == "classes":
            measures = [Measure(self.classes.index(row.label), 1.0) for row in rows]
        else:
            measures = [self.measures[row.clip] for row in rows]
        return Part(
            np.concatenate(clips),
            np.repeat([measure.value for measure in measures], counts),
            np.repeat([row.clip for row in rows], counts),
            np.repeat([row.group for row in rows], counts),
            np.repeat([measure.unit for measure in measures], counts),
        )

    def _frames(self, path: str) -> np.ndarray:
        """Evenly spaced frames of a clip, uint8 [T, size, size]; of one without a clock as many as are allowed."""
        clip = read_path(path)
        total, seconds = len(clip.frames), clip.seconds_per_frame
        wanted = self.at_most if seconds is None else round(total * seconds * self.per_second)
        keep = evenly(total, min(max(wanted, 1), self.at_most))
        side = (self.size, self.size)
        return np.stack([cv2.resize(clip.frames[i], side, interpolation=cv2.INTER_AREA) for i in keep])


def _bytes(row: Row) -> int:
    return sum(Path(file).stat().st_size for file in row.paths)
