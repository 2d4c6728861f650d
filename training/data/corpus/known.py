"""Corpora on the command line: a manifest from known datasets or from your own folder, and a check of any manifest.

    python -m training.data.corpus --list                                            the datasets that are known
    python -m training.data.corpus pocus_lung hc18 --root FOLDER -o manifest.csv --tier nc
    python -m training.data.corpus folder FOLDER -o manifest.csv --licence "CC BY 4.0"
    python -m training.data.corpus check manifest.csv

Known datasets are written without their locked test parts, and never if they are kept for evaluation.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from training.data.corpora import CORPORA
from training.data.corpora.record import Corpus
from training.data.corpus.guess import Guess, guess_manifest
from training.data.errors import CorpusError, short_errors
from training.data.licenses import Tier, tier_of
from training.data.locked_splits import has_locked_part, locked_groups
from training.data.manifest import Row, examine, write_manifest
from usbackbones._words import plural
from usbackbones.clips.read import ClipError


def in_tier(rows: Iterable[Row], tier: Tier) -> list[Row]:
    """The rows that may go into a weight of this tier; 'nc' includes all that is 'open'."""
    wanted = {"open"} if tier == "open" else {"open", "nc"}
    return [row for row in rows if tier_of(row.licence) in wanted]


def without_locked_test(rows: Iterable[Row]) -> list[Row]:
    """Drop every clip whose group is in the locked test part of its source; your own sources have none.

    Raises:
        CorpusError: if a source must never be pretrained on, or a group is on neither side of its source's split.
    """
    rows = list(rows)
    sources = {row.source for row in rows}
    never = sorted(source for source in sources if source in CORPORA and not CORPORA[source].pretrain)
    if never:
        raise CorpusError(f"never pretrained on: {', '.join(never)}; --judging writes a manifest to evaluate on")
    dropped: set[tuple[str, str]] = set()
    for source in filter(has_locked_part, sources):
        try:
            locked = locked_groups(source, {row.group for row in rows if row.source == source})
        except ValueError as error:
            raise CorpusError(f"{error}; give clips that are not of it a source of their own") from error
        dropped |= {(source, group) for group in locked}
    return [row for row in rows if (row.source, row.group) not in dropped]


def merge(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """The rows of several datasets in one list.

    Two datasets may use one name for a group, which is a patient of each: a group is a source and a name. A split of
    the merged rows that goes by names alone keeps the two together.

    Raises:
        CorpusError: if a clip is in it twice.
    """
    rows = [row for part in parts for row in part]
    if len({row.clip for row in rows}) < len(rows):
        raise CorpusError("the same clips twice: name each dataset once")
    return rows


def render_list() -> str:
    """The known datasets as a table, from their records."""
    entries = []
    for corpus in CORPORA.values():
        locked = "all but its locked test part" if has_locked_part(corpus.name) else "yes"
        facts = {
            "from": corpus.where,
            "licence": corpus.licence or "none stated",
            "pretraining": locked if corpus.pretrain else "never",
            "patient": corpus.patient,
            "label": corpus.label or "none",
            "layout": corpus.layout,
            "note": corpus.note,
        }
        lines = [f"  {name:<12} {fact}" for name, fact in facts.items() if fact]
        entries.append("\n".join([f"{corpus.name}: {corpus.what}", *lines]))
    return "\n\n".join(entries)


def known(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    root: Path = Path(),
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    tier: Tier = "nc",
    judging: bool = False,
    show_list: Annotated[bool, tyro.conf.arg(name="list")] = False,
) -> None:
    """Write the manifest of known datasets, without their locked test parts.

    The commands "folder" (a manifest of your own data) and "check" (of any manifest) have a --help of their own.

    Args:
        names: datasets, as NAME for the folder ROOT/NAME or as NAME=FOLDER.
        root: the folder that holds a folder for each dataset.
        out: the manifest to write: CSV, or Parquet if its name ends so.
        tier: open = CC0, CC BY, MIT, Apache-2.0 and BSD rows; nc = non-commercial rows too.
        judging: every row, whatever its licence, locked test parts and datasets that are never pretrained on
            included: for benchmarks alone.
        show_list: show the datasets that are known, and stop.
    """
    if show_list:
        print(render_list())  # noqa: T201
        return
    if not names or out is None:
        raise CorpusError("name at least one dataset and an output with -o; --list shows which there are")
    parts = []
    for name in names:
        name, _, folder = name.partition("=")
        rows = _corpus(name).rows(Path(folder) if folder else root / name)
        open_part = rows if judging else without_locked_test(rows)
        kept = rows if judging else in_tier(open_part, tier)
        parts.append(kept)
        counts = f"{len(kept)} of {plural(len(rows), 'clip')}, {_groups(kept)}"
        print(f"{name}: {counts}{_left_out(rows, open_part, kept)}")  # noqa: T201
    merged = merge(parts)
    if not merged:
        raise CorpusError(f"no clip is left, so {out} is not written: name another dataset, or another --tier")
    write_manifest(merged, out)
    print(f"{out}: {plural(len(merged), 'clip')} of {_groups(merged)}")  # noqa: T201


def _groups(rows: Iterable[Row]) -> str:
    return plural(len({(row.source, row.group) for row in rows}), "group")


def _left_out(rows: Sequence[Row], open_part: Sequence[Row], kept: Sequence[Row]) -> str:
    """Why clips of a dataset are not in its manifest, with the number for each reason; empty if all are."""
    locked = len(rows) - len(open_part)
    licences = Counter(row.licence for row in open_part) - Counter(row.licence for row in kept)
    reasons = [f"{locked} of its locked test part"] * bool(locked)
    reasons += [f"{count} for the licence {licence or '(none stated)'}" for licence, count in licences.most_common()]
    return f"; left out: {', '.join(reasons)}" if reasons else ""


def _corpus(name: str) -> Corpus:
    if name not in CORPORA:
        raise CorpusError(f"no dataset named {name!r} is known; there is: {', '.join(CORPORA)}")
    return CORPORA[name]


def folder(
    path: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    licence: str = "",
    source: str = "",
    stills: bool = False,
) -> None:
    """Write the manifest of a folder of your own; what is guessed is said, and stands in its column "note".

    Args:
        path: the folder.
        out: the manifest to write: CSV, or Parquet if its name ends so.
        licence: of all clips.
        source: name of the collection; by default that of the folder.
        stills: every still is a clip of its own; otherwise the stills of a folder are the frames of one.
    """
    guess = guess_manifest(path, licence, source or path.resolve().name, stills)
    _keep_corrections(guess, out)
    write_manifest(guess.rows, out, guess.notes)
    print(guess.summary)  # noqa: T201
    for fault in examine(out)[1]:
        print(f"check: {fault}")  # noqa: T201
    print(f"{out}: {plural(len(guess.rows), 'clip')} of {_groups(guess.rows)}")  # noqa: T201


def _keep_corrections(guess: Guess, out: Path) -> None:
    """Refuse to write over a manifest that says other things than would be written."""
    if not out.exists():
        return
    with TemporaryDirectory() as place:
        again = Path(place) / out.name
        write_manifest(guess.rows, again, guess.notes)
        if again.read_bytes() != out.read_bytes():
            raise CorpusError(
                f"{out} is there already and is not what would be written, perhaps corrected by hand: give another -o, "
                "or remove it first"
            )


def check(manifest: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print what is wrong with the cells of a manifest, with lines and columns; exit code 1 if it cannot be used so.

    That clips and masks are there is looked up; whether they can be read only training.data.prepare finds out.

    Args:
        manifest: CSV or Parquet.
    """
    rows, faults = examine(manifest)
    for fault in faults:
        print(f"{'fault' if fault.serious else 'note '} {fault}")  # noqa: T201
    serious = sum(fault.serious for fault in faults)
    counts = ", ".join([plural(len(rows), "row"), plural(serious, "fault"), plural(len(faults) - serious, "note")])
    print(f"{manifest}: {counts}; clips and masks were looked for, none was opened")  # noqa: T201
    if serious:
        raise SystemExit(1)


COMMANDS: dict[str, Callable[..., None]] = {"folder": folder, "check": check}


def main(arguments: Sequence[str]) -> None:
    """Run the command that the first argument names; without one of them the arguments name known datasets."""
    name = "python -m training.data.corpus"
    with short_errors(CorpusError, ClipError):
        if arguments and arguments[0] in COMMANDS:
            tyro.cli(COMMANDS[arguments[0]], prog=f"{name} {arguments[0]}", args=arguments[1:])
        else:
            tyro.cli(known, prog=name, args=arguments)
