"""Features of the screen around the tissue: the sector's shape, the surroundings, text and calipers.

Needs OpenCV, which the extra `clean` brings; without it the rows that rest on this are not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from usbackbones._evenly import evenly
from usbackbones.features.shortcuts import Facts

CELLS = 3
"""Cells on a side of the grid in which the ground and the writing are counted."""
LONG = 48
"""Frames of a clip that are looked at, at most, evenly spread."""
DARK = 16
"""Gray level above which a pixel is lit."""
DETECTED = ("text", "calipers")
MEASURED: list[tuple[str, str, dict[str, float | int | None]]] = [
    ("BUS-UCLM", "calipers", {"with": 118, "without": 518, "sensitivity": 30 / 118, "specificity": 1.0}),
    ("phantoms", "text", {"with": 30, "without": 30, "sensitivity": 23 / 30, "specificity": 1.0}),
]
"""Where the detectors were measured: set, what was looked for, result of `checked`; docs/audit.md has the commands."""
MISSING = "OpenCV is missing; pip install 'usbackbones[clean]'"


def can_look() -> bool:
    """Whether OpenCV is installed."""
    return find_spec("cv2") is not None


@dataclass(frozen=True)
class Screen:
    """A clip's screen.

    Attributes:
        sector: kind, edges seen and their places in shares of the frame.
        outside: float [D], share and light of the pixels outside of the sector in each cell.
        writing: float [D], share of ink in each cell, then boxes of text and of calipers.
        text: boxes of text.
        calipers: boxes of calipers.
    """

    sector: Facts
    outside: np.ndarray
    writing: np.ndarray
    text: int
    calipers: int


def look_at(frames: np.ndarray) -> Screen:
    """Look at the screen of a clip uint8 [T, H, W]."""
    from usbackbones.clips.cleaning.extremes import extremes_of
    from usbackbones.clips.cleaning.sector import find_sector
    from usbackbones.clips.cleaning.text import find_writing, lines_of

    extremes = extremes_of(frames[evenly(len(frames), LONG)])
    height, width = frames.shape[1:]
    sector, _ = find_sector(extremes.highest, extremes.lowest)
    facts: Facts = {"kind": sector.kind, "seen": " ".join(sector.seen) or "none"}
    for name, line in (("left", sector.left), ("right", sector.right)):
        if line:
            facts |= {f"{name} start": line[0] / width, f"{name} slope": line[1]}
    for name in ("near", "far", "top", "bottom"):
        if (value := getattr(sector, name)) is not None:
            facts[name] = value / height
    outside = ~sector.mask(height, width)
    light = np.where(outside, extremes.highest, 0)
    writing = find_writing(extremes.held)
    lines = lines_of(writing.text)
    counts = [float(len(lines)), float(len(writing.calipers))]
    return Screen(
        facts,
        np.concatenate([in_cells(outside), in_cells(light / 255.0), in_cells(light > DARK)]),
        np.concatenate([in_cells(writing.ink), np.array(counts)]),
        len(lines),
        len(writing.calipers),
    )


def checked(detected: Sequence[bool], labels: Sequence[str]) -> dict[str, float | int | None]:
    """Sensitivity and specificity of a detector on the files whose label is "1" or "0"; None where there are none."""
    told = {cell: [found for found, label in zip(detected, labels, strict=True) if label == cell] for cell in "10"}
    there, lacking = told["1"], told["0"]
    return {
        "with": len(there),
        "without": len(lacking),
        "sensitivity": sum(there) / len(there) if there else None,
        "specificity": 1 - sum(lacking) / len(lacking) if lacking else None,
    }


def in_cells(picture: np.ndarray) -> np.ndarray:
    """Mean of an image [H, W] in each of CELLS x CELLS cells, float32 [CELLS²]."""
    rows = np.array_split(picture, CELLS)
    return np.array([part.mean() for row in rows for part in np.array_split(row, CELLS, axis=1)], np.float32)


def writing_on(frame: np.ndarray) -> int:
    """Lines of text on one frame uint8 [H, W]."""
    from usbackbones.clips.cleaning.text import find_writing, lines_of

    return len(lines_of(find_writing(frame, calipers=False).text))
