"""Hold-outs and folds that never divide a group, the file that keeps them, and a check of any split for leaks.

A group is whatever must stay on one side: a patient, or a source where patients are unknown. Every function
works on groups first and on rows only afterwards, so a row cannot reach a side that its group is not on.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from usbackbones._files import atomic_write
from usbackbones.data.near_duplicates import near_duplicates


class SplitError(ValueError):
    """A split that cannot be made, or that leaks."""


def group_labels(groups: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """The commonest label of each group; of two equally common ones the alphabetically first."""
    if len(groups) != len(labels):
        raise SplitError(f"{len(groups)} groups but {len(labels)} labels: give one of each per row")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        counts[str(group)][str(label)] += 1
    return {group: min(count, key=lambda label: (-count[label], label)) for group, count in sorted(counts.items())}


def _shuffled_by_label(groups: Sequence[str], labels: Sequence[str], seed: int) -> dict[str, list[str]]:
    """For each label its groups in a seeded order that does not depend on the order of the rows."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for group, label in group_labels(groups, labels).items():
        by_label[label].append(group)
    generator = np.random.default_rng(seed)
    return {label: [str(group) for group in generator.permutation(by_label[label])] for label in sorted(by_label)}


def holdout(groups: Sequence[str], labels: Sequence[str], fraction: float, seed: int) -> tuple[set[str], set[str]]:
    """Split the groups in two, each label in the same proportion.

    Args:
        groups: the group of each row.
        labels: the label of each row; a group counts under its commonest one.
        fraction: share of each label's groups to hold out, in (0, 1), rounded half up. A label with a
            single group stays whole on the kept side.
        seed: the same seed gives the same split whatever the order of the rows.

    Returns:
        (kept groups, held-out groups), disjoint.
    """
    if not 0 < fraction < 1:
        raise SplitError(f"fraction is {fraction}: it must lie between 0 and 1, both excluded")
    kept: set[str] = set()
    held: set[str] = set()
    for names in _shuffled_by_label(groups, labels, seed).values():
        take = min(int(fraction * len(names) + 0.5), len(names) - 1)
        held.update(names[:take])
        kept.update(names[take:])
    assert_disjoint(kept, held)
    return kept, held


def grouped_folds(
    groups: Sequence[str], labels: Sequence[str], folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group-stratified cross-validation: the groups of each label are dealt to the folds like cards.

    The deal goes on with the next fold when the label changes, so rare labels do not pile up in fold 0.

    Returns:
        `folds` pairs of row indices (train, test); every row is in exactly one test part.
    """
    distinct = len(set(groups))
    if not 2 <= folds <= distinct:
        raise SplitError(f"{folds} folds of {distinct} groups: ask for 2 to {distinct} folds")
    order = [group for names in _shuffled_by_label(groups, labels, seed).values() for group in names]
    fold_of = {group: position % folds for position, group in enumerate(order)}
    row_fold = np.array([fold_of[str(group)] for group in groups])
    return [(np.flatnonzero(row_fold != fold), np.flatnonzero(row_fold == fold)) for fold in range(folds)]


def assert_disjoint(first: Iterable[str], second: Iterable[str], what: str = "group") -> None:
    """Refuse two sides that share an id, naming the first few.

    Raises:
        SplitError: if any id stands on both sides.
    """
    shared = sorted(set(map(str, first)) & set(map(str, second)))
    if shared:
        raise SplitError(
            f"{len(shared)} {what}(s) stand on both sides of the split: {_shown(shared)}. Move each to one side."
        )


def check_split(
    parts: Mapping[str, Sequence[int]],
    groups: Sequence[str],
    clips: Sequence[str] | None = None,
    fingerprints: Sequence[np.ndarray] | None = None,
) -> None:
    """Refuse a split of rows through which a patient, a clip or a near-duplicate leaks.

    Args:
        parts: name of each part -> its rows.
        groups: the group of each row.
        clips: the clip of each row, where a row is less than a clip.
        fingerprints: of each row its frames' `usbackbones.data.near_duplicates.fingerprint`, uint64 [F, 19, 4].

    Raises:
        SplitError: naming, for every kind of leak that there is, the ids that cross.
    """
    rows = [row for part in parts.values() for row in part]
    side = np.repeat(list(parts), [len(part) for part in parts.values()])
    leaks = []
    for what, ids in (("group", groups), ("clip", clips)):
        if ids is not None:
            sides: dict[str, set[str]] = defaultdict(set)
            for row, part in zip(rows, side, strict=True):
                sides[str(ids[row])].add(str(part))
            crossing = sorted(name for name, found in sides.items() if len(found) > 1)
            if crossing:
                leaks.append(f"{len(crossing)} {what}(s): {_shown(crossing)}")
    if fingerprints is not None and rows:
        names = groups if clips is None else clips
        owner = np.repeat(np.arange(len(rows)), [len(fingerprints[row]) for row in rows])
        pairs = near_duplicates(np.concatenate([fingerprints[row] for row in rows]), side[owner].tolist())
        close: dict[tuple[str, str], int] = {}
        for first, second, distance in zip(*pairs, strict=True):
            pair = str(names[rows[owner[first]]]), str(names[rows[owner[second]]])
            close.setdefault(pair, int(distance))
        if close:
            told = [f"{one} = {other} ({distance} bits apart)" for (one, other), distance in close.items()]
            leaks.append(f"{len(close)} near-duplicate(s): {_shown(told)}")
    if leaks:
        raise SplitError(f"the split of {', '.join(parts)} leaks {'; '.join(leaks)}. Move each to one part.")


@dataclass(frozen=True)
class Split:
    """The groups of a dataset's parts, as they are committed.

    Attributes:
        dataset: its name.
        seed: the parts were drawn with.
        parts: name of each part -> its groups, in no other part.
        fraction: of the groups that were held out, in (0, 1); None for folds.
    """

    dataset: str
    seed: int
    parts: Mapping[str, Sequence[str]]
    fraction: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not self.dataset:
            raise SplitError(f"dataset is {self.dataset!r}: give its name")
        if type(self.seed) is not int:
            raise SplitError(f"seed is {self.seed!r}: give the whole number that the parts were drawn with")
        if self.fraction is not None and not (type(self.fraction) is float and 0 < self.fraction < 1):
            raise SplitError(f"fraction is {self.fraction!r}: it must lie between 0 and 1, both excluded")
        if len(self.parts) < 2:
            raise SplitError(f"{len(self.parts)} part(s): a split has two at least, each a list of groups")
        taken = sorted({"dataset", "seed", "fraction"} & set(self.parts))
        if taken:
            raise SplitError(f"a part may not be called {taken[0]!r}: the file keeps something else under that name")
        for name, groups in self.parts.items():
            listed = isinstance(groups, Sequence) and not isinstance(groups, str)
            if not listed or not all(isinstance(group, str) and group for group in groups):
                raise SplitError(f"part {name!r} is {str(groups)[:60]}: give a list of group names")
            twice = sorted(group for group, count in Counter(groups).items() if count > 1)
            if twice:
                raise SplitError(f"part {name!r} names {len(twice)} group(s) twice: {_shown(twice)}")
        for one, other in combinations(self.parts.values(), 2):
            assert_disjoint(one, other)


def write_split(split: Split, file: Path) -> None:
    """Write a split as JSON, each part's groups sorted, so that the same split is always the same bytes."""
    head = {"dataset": split.dataset, "seed": split.seed, "fraction": split.fraction}
    content = {**head, **{name: sorted(groups) for name, groups in split.parts.items()}}
    with atomic_write(file, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_split(file: Path) -> Split:
    """Read what `write_split` wrote; every key but dataset, seed and fraction is a part.

    Raises:
        SplitError: naming the file and what is wrong in it.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise SplitError(f"it holds a {type(content).__name__}, not an object")
        head = {name: content.pop(name, None) for name in ("dataset", "seed", "fraction")}
        return Split(**head, parts=content)
    except (OSError, ValueError) as error:  # SplitError, wrong JSON and wrong UTF-8 are all ValueErrors
        raise SplitError(f"{file} is no split: {error}") from error


def _shown(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
