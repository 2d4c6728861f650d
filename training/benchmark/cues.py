"""Null rows of a table: features that are no medicine, evaluated by the same probes as the features of networks.

`cue:container` and `cue:geometry` are facts of the files, without a pixel; `cue:border` is the outer ring of a frame.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.benchmark.task import Part, Task
from training.data.clip_of_row import read_path
from training.data.manifest import Row
from usbackbones._files import atomic_write
from usbackbones.features.shortcuts import Facts, border, container, encoded, geometry, reduced

CUE = "cue:"
FILE_CUES = ("container", "geometry")
CUES = (*FILE_CUES, "border")


def is_cue(name: str) -> bool:
    """Whether the name of a row is that of a cue.

    Raises:
        ValueError: if there is no such cue.
    """
    if name.startswith(CUE) and name.removeprefix(CUE) not in CUES:
        raise ValueError(f"{name}: no such cue; there are {', '.join(CUE + cue for cue in CUES)}")
    return name.startswith(CUE)


def cue_features(name: str, task: Task, locked: bool, cache: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Features of a cue, standardized over the pretraining part; the locked part is opened if asked for, labels never.

    Returns:
        (of the frames of the pretraining part, float [N, D]; of the evaluated frames, [M, D]).
    """
    cue = name.removeprefix(CUE)
    if cue in FILE_CUES:
        known, evaluated = _of_files(cue, task, locked, cache)
    else:
        known = _of_frames(task.pretrain)
        evaluated = _of_frames(task.test) if locked else known
    mean, spread = known.mean(0), known.std(0)
    spread[spread < 1e-9] = 1.0  # the same in every frame: it says nothing
    return (known - mean) / spread, (evaluated - mean) / spread


def _of_frames(part: Part) -> np.ndarray:
    return np.stack([border(reduced(frame)) for frame in part.frames]).astype(float)


def _of_files(cue: str, task: Task, locked: bool, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Facts of each clip as the features of each of its frames."""
    sides = [(task.rows, task.pretrain), *([(task.test_rows, task.test)] if locked else [])]
    facts = [file_facts(rows, task.name, cache) for rows, _ in sides]
    x = encoded([of[cue] for side in facts for of in side])
    given, places = [], np.cumsum([0, *map(len, facts)])
    for (rows, part), start in zip(sides, places[:-1], strict=True):
        number = {row.clip: start + place for place, row in enumerate(rows)}
        given.append(x[[number[clip] for clip in part.clip]])
    return given[0], given[-1]


def file_facts(rows: Sequence[Row], task: str, cache: Path | None) -> list[dict[str, Facts]]:
    """{cue: facts} of the file of each row, read once and then kept in the cache."""
    told = [[row.clip, [Path(file).stat().st_size for file in row.paths]] for row in rows]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    file = None if cache is None else cache / f"{task}-cues-{key}.json"
    if file is not None and file.is_file():
        kept: list[dict[str, Facts]] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    found = []
    for row in tqdm(rows, f"{task}: files", unit="clip"):
        clip = read_path(row.path)
        found.append({"container": container(Path(row.paths[0]), clip), "geometry": geometry(clip)})
    if file is not None:
        with atomic_write(file, "w", encoding="utf-8") as stream:
            json.dump(found, stream)
    return found
