"""Near-duplicates among labelled items: kept together where parts are drawn, refused where the data decide them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from usbackbones._words import plural
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.data.near_duplicates import fingerprint, joined_groups, near_duplicates
from usbackbones.data.patients import unit

MANY = 2000
"""Frames from which on a bar is shown."""
NAMED = 3
"""Most pairs that a refusal or a note names."""


def copies_among(items: Sequence[Item], frames: Frames, progress: bool = False) -> list[tuple[int, int]]:
    """The pairs of items of different groups that hold a near-duplicate frame, closest first, each once."""
    from tqdm import tqdm

    many = progress and len(frames.item) >= MANY
    rows = tqdm(range(len(frames.item)), "fingerprints", unit="frame", disable=not many)
    prints = np.concatenate([fingerprint(frames[row][None]) for row in rows])
    pairs = near_duplicates(prints, [items[number].group for number in frames.item], progress=many)
    found = zip(frames.item[pairs.first].tolist(), frames.item[pairs.second].tolist(), strict=True)
    return list(dict.fromkeys(found))


def together(items: Sequence[Item], pairs: Sequence[tuple[int, int]]) -> list[Item]:
    """The items, near-duplicates in one group, which is called after one of its own; parts that divide a pair refused.

    Raises:
        DataError: if the data put near-duplicates of each other into different parts.
    """
    crossing = [(one, other) for one, other in pairs if items[one].part != items[other].part]
    if crossing:
        raise DataError(
            f"{plural(len(crossing), 'pair')} of near-duplicates on both sides of the split: "
            f"{_named(items, crossing)}. Give them one split, or leave one out"
        )
    leader = joined_groups(
        (item.group for item in items), ((items[one].group, items[other].group) for one, other in pairs)
    )
    return [replace(item, group=leader[item.group]) for item in items]


def told(items: Sequence[Item], pairs: Sequence[tuple[int, int]], *, labelled: bool = True) -> str:
    """A line about groups that were joined; empty where none were. `labelled` where an item's label is its truth."""
    if not pairs:
        return ""
    across = f" of different {unit(items)}s" if unit(items) else ""
    line = f"{plural(len(pairs), 'pair')} of near-duplicates{across}, kept together: {_named(items, pairs)}"
    apart = [(one, other) for one, other in pairs if items[one].label != items[other].label] if labelled else []
    return line + (f"; {len(apart)} with different labels: {_named(items, apart)}" if apart else "")


def _named(items: Sequence[Item], pairs: Sequence[tuple[int, int]]) -> str:
    names = [f"{items[one].path.name} = {items[other].path.name}" for one, other in pairs[:NAMED]]
    return ", ".join(names) + f" and {len(pairs) - NAMED} more" * (len(pairs) > NAMED)
