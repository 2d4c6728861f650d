"""Draw the locked test part of a dataset, once: python -m training.data.locked_splits TABLE --name NAME.

The file it writes holds group ids only and is committed; no published weight ever sees a clip of its test part
(`refuse_seen` in training/release/checks.py).
It refuses to write over an existing file, because a test part that can be drawn again is not a test part.

A dataset that is not at hand cannot be drawn. Of those in `BY_RULE` a group is locked if a hash of its name says so,
which is the same on every machine and known before anybody has looked at a clip.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from training.data.errors import short_errors
from usbackbones._files import atomic_write
from usbackbones.clips.read import read_clip
from usbackbones.data.near_duplicates import AT_MOST, fingerprint, joined_groups, near_duplicates
from usbackbones.data.splits import assert_disjoint, holdout

SPLITS = Path(__file__).parent / "splits"
BY_RULE = ("bus_bra", "bus_uclm", "camus", "fetal_planes_db", "tn3k", "udiat_b")
RULE_FRACTION = 0.25


def locked_split(name: str) -> dict[str, list[str]]:
    """The committed group ids of a dataset: {"pretrain": [...], "test": [...]}, checked to be disjoint."""
    split = _committed(name)
    assert_disjoint(split["pretrain"], split["test"])
    return {"pretrain": split["pretrain"], "test": split["test"]}


def joined(name: str) -> dict[str, str]:
    """Groups of a dataset that count as another one, because near-duplicates tie them: {group: what it counts as}."""
    return {} if name in BY_RULE else _committed(name).get("joined", {})


def drawn_splits() -> set[str]:
    """The datasets whose locked part was drawn and is committed."""
    return {file.stem for file in SPLITS.glob("*.json")}


def has_locked_part(source: str) -> bool:
    """Whether a part of a dataset is locked, by the rule or by a drawn split."""
    return source in BY_RULE or source in drawn_splits()


def locked_groups(source: str, groups: Collection[str]) -> set[str]:
    """Those of a dataset's groups that are in its locked test part, whether it was drawn or follows the rule.

    A group that counts as a locked one, because near-duplicates tie them, is locked as well.

    Raises:
        FileNotFoundError: if the dataset has neither.
        ValueError: if a group is on neither side of a drawn split.
    """
    if source in BY_RULE:
        return {group for group in groups if _share(f"{source}/{group}") < RULE_FRACTION}
    split = locked_split(source)
    strangers = sorted(set(groups) - {*split["pretrain"], *split["test"]})
    if strangers:
        raise ValueError(f"group {strangers[0]!r} is on neither side of the locked split of {source}")
    leaders = joined(source)
    return {group for group in groups if {group, leaders.get(group, group)} & {*split["test"]}}


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone and spreads evenly."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _committed(name: str) -> dict[str, Any]:
    file = SPLITS / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(drawn_splits()))
        raise FileNotFoundError(f"no locked split named {name!r} in {SPLITS}; there is: {known}")
    return json.loads(file.read_text())


def draw(
    rows: Sequence[Mapping[str, str]], fraction: float, seed: int, joined: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The content of a split file, without the name of its dataset, from rows with group and perhaps label and kind.

    Groups that `joined` gives one name are drawn as one; the file lists them one by one.
    """
    joined = joined or {}
    leaders = [joined.get(row["group"], row["group"]) for row in rows]
    with_video = {leader for leader, row in zip(leaders, rows, strict=True) if row.get("kind") == "video"}
    strata = [
        f"{row.get('label', '')} {'video' if leader in with_video else 'still'}"
        for leader, row in zip(leaders, rows, strict=True)
    ]
    _, held = holdout(leaders, strata, fraction, seed)
    return {"seed": seed, "fraction": fraction} | _sides(rows, held, joined)


def _sides(rows: Iterable[Mapping[str, str]], held: Collection[str], joined: Mapping[str, str]) -> dict[str, Any]:
    groups = {row["group"] for row in rows}
    test = {group for group in groups if joined.get(group, group) in held}
    several = {group: leader for group, leader in sorted(joined.items()) if group != leader}
    return ({"joined": several} if several else {}) | {"test": sorted(test), "pretrain": sorted(groups - test)}


def duplicate_groups(rows: Sequence[Mapping[str, str]], folder: Path, at_most: int = AT_MOST) -> dict[str, str]:
    """{group: the group it counts as} after near-duplicates among the first frames of the rows' clips are joined."""
    prints = np.concatenate(
        [
            fingerprint(read_clip(folder / row["path"]).frames[:1])
            for row in tqdm(rows, desc="fingerprints", unit="clip")
        ]
    )
    groups = [row["group"] for row in rows]
    pairs = near_duplicates(prints, groups, at_most, progress=True)
    return joined_groups(groups, [(groups[i], groups[j]) for i, j in zip(pairs.first, pairs.second, strict=True)])


def _matching(rows: Iterable[Mapping[str, str]], pattern: str, together: Mapping[str, str]) -> set[str]:
    groups = {row["group"] for row in rows}
    held = {group for group in groups if fnmatch(group, pattern)}
    if not 0 < len(held) < len(groups):
        raise SystemExit(f"--held {pattern!r} matches {len(held)} of {len(groups)} groups: it must match some, not all")
    across = sorted(group for group, leader in together.items() if (group in held) != (leader in held))
    if across:
        raise SystemExit(f"--held {pattern!r} divides near-duplicates: {', '.join(across[:5])}")
    return held


def main(
    table: Annotated[Path, tyro.conf.Positional],
    name: str,
    fraction: float = 0.25,
    seed: int = 0,
    held: str = "",
    join_duplicates: bool = False,
    at_most: int = AT_MOST,
) -> None:
    """Hold out a fraction of a dataset's groups, stratified by label and, where the table tells, by video or still.

    Args:
        table: a CSV with the column group and, if there are any, label and kind (video or image): any manifest.
        name: the split is written to training/data/splits/NAME.json.
        fraction: share of the groups of each stratum that is locked away.
        seed: of the draw.
        held: a shell pattern; the groups that match it are locked instead of a drawn fraction, as where a dataset's
            authors keep a test part of their own.
        join_duplicates: first join groups that share a near-duplicate picture, for datasets without patient ids or
            with patients that have two.
        at_most: distance up to which pictures are near-duplicates; farther ones than the default are to be looked at.
    """
    file = SPLITS / f"{name}.json"
    if file.exists():
        raise SystemExit(f"{file} exists: a locked test part is drawn once and never again")
    with table.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if "group" not in (reader.fieldnames or ()):
            raise SystemExit(f"{table} has no column 'group'; it has: {', '.join(reader.fieldnames or ())}")
        rows = list(reader)
    together = duplicate_groups(rows, table.parent, at_most) if join_duplicates else {}
    if held:
        content = {"held": held} | _sides(rows, _matching(rows, held, together), together)
    else:
        content = draw(rows, fraction, seed, together)
    with atomic_write(file, "w") as stream:
        stream.write(json.dumps({"dataset": name, **content}, indent=1) + "\n")


if __name__ == "__main__":
    with short_errors():
        tyro.cli(main)
