"""Facts about files and patients: damage, duplicates, divided patients, contradicting labels; and their repair."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from usbackbones._files import write_csv
from usbackbones._words import FEW, plural
from usbackbones.auditing.findings import Finding, key_of
from usbackbones.auditing.look import Looked
from usbackbones.clips.files import real
from usbackbones.data.item import DataError, Item
from usbackbones.data.leakage import copies_among, together
from usbackbones.data.patients import unit
from usbackbones.data.splits import SplitError, holdout

BY_PATIENT = 0.1
"""Where at most this share of the patients with several files has several labels, labels are of patients."""
CHECKS = ("patient-in-two-parts", "twins-in-two-parts", "twins-opposite", "patient-contradicts")


@dataclass(frozen=True)
class Twins:
    """Files that are one image.

    Attributes:
        exact: pairs of numbers of items whose bytes are equal.
        near: pairs of items of different groups that hold a near-duplicate frame.
        joined: the items, twins in one group.
    """

    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]
    joined: list[Item]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Both kinds, each pair once."""
        return list(dict.fromkeys([*self.exact, *self.near]))


def find_twins(looked: Looked, progress: bool = False) -> Twins:
    """Look for exact and near-duplicates, and join their groups."""
    items = looked.items
    by_bytes = defaultdict(list)
    for number, seen in enumerate(looked.seen):
        if seen.digest:
            by_bytes[seen.digest].append(number)
    exact = [(same[0], other) for same in by_bytes.values() for other in same[1:]]
    near = [(min(pair), max(pair)) for pair in copies_among(items, looked.frames, progress)]
    whole = together([replace(item, part="") for item in items], [*exact, *near])
    joined = [replace(item, part=given.part) for item, given in zip(whole, items, strict=True)]
    return Twins(exact, near, joined)


def file_findings(looked: Looked, twins: Twins, labelled: bool) -> list[Finding]:
    """All that can be proven or counted about files and patients."""
    items, what = looked.items, unit(looked.items) or "file"
    found = []

    def add(kind: str, members: list[str], text: str, serious: bool = True) -> None:
        if members:
            found.append(Finding(key_of(kind, members), text, serious))

    parts: dict[str, set[str]] = defaultdict(set)
    for item in items:
        parts[item.group].add(item.part)
    crossing = [group for group, of in parts.items() if len(of) > 1]
    add("patient-in-two-parts", crossing, f"{plural(len(crossing), what)} in several parts of the given split")
    pairs = twins.pairs
    over = _names(items, [(a, b) for a, b in pairs if items[a].part != items[b].part])
    add(
        "twins-in-two-parts",
        over,
        f"{len(over)} pair(s) of near-duplicates stand in different parts of the given split",
    )
    if labelled:
        opposite = _names(items, [(a, b) for a, b in pairs if items[a].label != items[b].label])
        add("twins-opposite", opposite, f"{len(opposite)} pair(s) of near-duplicates carry different labels")
        mixed, several = contradicting(items)
        text = f"{len(mixed)} of {plural(several, what)} with several files carry several labels"
        by_patient = len(mixed) <= BY_PATIENT * several
        explained = f", although labels are of {what}s here" if by_patient else ": labels are of files here"
        add("patient-contradicts", mixed, text + explained, by_patient)
        for label, count in patients_of(twins.joined).items():
            if count < FEW:
                text = f"{label}: {plural(count, what)}, too few for an interval that can be relied on"
                add(f"few-patients:{label}", [label], text, False)
    add("twins", _names(items, pairs), f"{plural(len(pairs), 'pair')} of files that are one image", False)
    damaged = [item.path.name for item, seen in zip(items, looked.seen, strict=True) if _is_damage(seen.warnings)]
    add("damaged", damaged, f"{plural(len(damaged), 'file')} damaged or cut short", False)
    lost = [item.path.name for item in looked.lost]
    add("unreadable", lost, f"{plural(len(lost), 'file')} that cannot be read", False)
    return found


def _names(items: Sequence[Item], pairs: Sequence[tuple[int, int]]) -> list[str]:
    return [f"{items[a].path.name}={items[b].path.name}" for a, b in pairs]


def _is_damage(warnings: Sequence[str]) -> bool:
    return any("damaged" in line or "cut short" in line for line in warnings)


def contradicting(items: Sequence[Item]) -> tuple[list[str], int]:
    """Groups with several labels, and how many groups have several files."""
    labels: dict[str, list[str]] = defaultdict(list)
    for item in items:
        labels[item.group].append(item.label)
    return [group for group, of in labels.items() if len(set(of)) > 1], sum(len(of) > 1 for of in labels.values())


def patients_of(items: Sequence[Item]) -> dict[str, int]:
    """Number of groups of each label."""
    return dict(sorted(Counter(label for _, label in {(item.group, item.label) for item in items}).items()))


def remarks(looked: Looked, twins: Twins) -> list[list[str]]:
    """What was noticed of each item, in words."""
    items = looked.items
    found = [[*seen.private, *(["damaged"] * _is_damage(seen.warnings))] for seen in looked.seen]
    for pairs, what in ((twins.exact, "copy"), (twins.near, "near-duplicate")):
        for a, b in pairs:
            for one, other in ((a, b), (b, a)):
                crosses = [
                    word
                    for word, differ in (
                        ("class", items[one].label != items[other].label),
                        ("patient", items[one].group != items[other].group),
                        ("part", items[one].part != items[other].part),
                    )
                    if differ
                ]
                across = f" across {' and '.join(crosses)}" if crosses else ""
                found[one].append(f"{what} of {items[other].path.name}{across}")
    for remark, seen in zip(found, looked.seen, strict=True):
        if seen.screen and seen.screen.text:
            remark.append("text on the screen")
        if seen.screen and seen.screen.calipers:
            remark.append("calipers")
    return found


def write_repairs(
    folder: Path, looked: Looked, twins: Twins, classes: bool, masks: Mapping[Path, Sequence[Path]], seed: int
) -> list[str]:
    """Write groups.csv (twins joined), split.csv (by patient, stratified) and drop.csv; tables that probe takes.

    Where nobody tells patients apart the column of twins is called twins: as group it would claim that somebody does.

    Args:
        folder: to write to.
        looked: the files.
        twins: of the files.
        classes: labels are classes, of which every part gets its share; numbers have none.
        masks: of each image of a set of masks, for which the tables are those that segmentation takes.
        seed: of the split.

    Returns:
        the names of the files that were written.
    """
    joined = twins.joined
    header = ["image", "mask"] if masks else ["path", "label"]

    def cells(item: Item) -> list[str]:
        return [_path(item), "|".join(str(real(mask)) for mask in masks[item.path]) if masks else item.label]

    group = "group" if unit(joined) else "twins"
    write_csv(folder / "groups.csv", [*header, group], [[*cells(item), item.group] for item in joined])
    written = ["groups.csv"]
    labels, groups = [item.label * classes for item in joined], [item.group for item in joined]
    try:
        _, test = holdout(groups, labels, 0.2, seed)
        rest = [(g, label) for g, label in zip(groups, labels, strict=True) if g not in test]
        _, validation = holdout([g for g, _ in rest], [label for _, label in rest], 0.2, seed)
    except SplitError:
        test = validation = set()
    if test and validation:
        part = {g: "test" if g in test else "validation" if g in validation else "train" for g in groups}
        rows = [[*cells(item), item.group, part[item.group]] for item in joined]
        write_csv(folder / "split.csv", [*header, group, "split"], rows)
        written.append("split.csv")
    drop = [[_path(item), item.label, "cannot be read"] for item in looked.lost]
    opposite = {n for pair in twins.pairs if joined[pair[0]].label != joined[pair[1]].label for n in pair}
    same = {b for _, b in twins.exact} - opposite
    drop += [[_path(joined[n]), joined[n].label, "the same bytes as another file"] for n in sorted(same)]
    drop += [[_path(joined[n]), joined[n].label, "a near-duplicate has another label"] for n in sorted(opposite)]
    write_csv(folder / "drop.csv", ["path", "label", "why"], drop)
    return [*written, "drop.csv"]


def _path(item: Item) -> str:
    return str(real(item.path))


def check_folder(folder: Path, data: Path) -> bool:
    """Refuse a folder that holds something else than an earlier audit of the same data.

    Returns:
        True where there is such an audit, whose accepted findings are kept.

    Raises:
        DataError: if it is a file, an audit of other data, or has files and no audit.json.
    """
    if folder.is_file():
        raise DataError(f"-o {folder} is a file: name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        of = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"-o {folder} holds files that no audit wrote: name a new folder") from error
    if of != str(data.resolve()):
        raise DataError(f"-o {folder} holds the audit of {of}: name a new folder")
    return True
