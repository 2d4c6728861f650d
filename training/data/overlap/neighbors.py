"""The near-duplicates among the clips of a corpus: as a table, as joined groups, and as an image to look at."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.fingerprints import FramesOf
from training.data.manifest import Row
from usbackbones._evenly import evenly
from usbackbones._files import atomic_write
from usbackbones.data.near_duplicates import fingerprint, joined_groups, near_duplicates

_TILE, _LABEL, _GAP, _ACROSS = 160, 34, 10, 4  # pixels, and pairs in a line


@dataclass(frozen=True)
class Neighbors:
    """Two clips of different groups that share a picture.

    Attributes:
        first: a clip.
        second: another.
        distance: signs of 255 in which their closest frames differ.
        frames: how many pairs of their frames are near-duplicates.
        at: which frame of either is the closest.
    """

    first: Row
    second: Row
    distance: int
    frames: int
    at: tuple[int, int]


def find_neighbors(
    clips: Iterable[tuple[Row, np.ndarray]], at_most: int, most: int, progress: bool = True
) -> list[Neighbors]:
    """The clips, with frames uint8 [T, H, W], of different groups that share a picture, closest first.

    Two frames are one picture up to `at_most` signs of 255; of a clip `most` are looked at, evenly spaced.
    """
    rows: list[Row] = []
    prints, frames, owner = [], [], []
    for row, clip in clips:
        kept = evenly(len(clip), most)
        prints.append(fingerprint(clip[kept]))
        frames += kept.tolist()
        owner += [len(rows)] * len(kept)
        rows.append(row)
    if not prints:
        return []
    groups = [rows[number].group for number in owner]
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for one, other, distance in zip(*near_duplicates(np.concatenate(prints), groups, at_most, progress), strict=True):
        found.setdefault((owner[one], owner[other]), []).append((int(distance), frames[one], frames[other]))
    return [
        Neighbors(rows[one], rows[other], pairs[0][0], len(pairs), pairs[0][1:])
        for (one, other), pairs in found.items()
    ]


def write_pairs(pairs: Sequence[Neighbors], file: Path) -> None:
    """Write the pairs as CSV; ids and labels only."""
    with atomic_write(file, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        sides = [f"{side}_{name}" for side in ("first", "second") for name in ("clip", "group", "label")]
        table.writerow(["distance", "frames", *sides])
        for pair in pairs:
            ids = [name for row in (pair.first, pair.second) for name in (row.clip, row.group, row.label)]
            table.writerow([pair.distance, pair.frames, *ids])


def join(rows: Sequence[Row], pairs: Sequence[Neighbors]) -> list[Row]:
    """The rows with the groups of near-duplicates made one, under the alphabetically first of their names."""
    called = joined_groups((row.group for row in rows), ((pair.first.group, pair.second.group) for pair in pairs))
    return [replace(row, group=called[row.group]) for row in rows]


def draw_pairs(pairs: Sequence[Neighbors], frames_of: FramesOf) -> Image.Image:
    """The closest frames of each pair side by side, with the distance and the clips' names above them."""
    lines = -(-len(pairs) // _ACROSS)
    width, height = 2 * _TILE + _GAP, _TILE + _LABEL
    sheet = Image.new("L", (_ACROSS * width, max(lines, 1) * height), 44)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, pair in enumerate(pairs):
        top, left = number // _ACROSS * height, number % _ACROSS * width
        for side, (row, frame) in enumerate(zip((pair.first, pair.second), pair.at, strict=True)):
            text = f"{pair.distance}  {row.clip[-46:]}" if side == 0 else f"      {row.clip[-46:]}"
            draw.text((left, top + 2 + 15 * side), text, fill=255, font=font)
            picture = Image.fromarray(frames_of(row)[frame]).resize((_TILE - 2, _TILE - 2))
            sheet.paste(picture, (left + side * _TILE, top + _LABEL))
    return sheet
