"""Hold-outs and folds that never divide a group.

A group is whatever must stay on one side: a patient, or a source where patients are unknown. Every function
works on groups first and on rows only afterwards, so a row cannot reach a side that its group is not on.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from usbackbones.data.item import DataError


class SplitError(DataError):
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


def _shown(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
