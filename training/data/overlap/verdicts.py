"""Has a weight seen what it is evaluated on? And which clips of a corpus are one picture?

    python -m training.data.overlap cache/lung pocus_lung busi --root FOLDER     before a run: does the corpus leak?
    python -m training.data.overlap weights pocus_lung busi --root FOLDER        every published weight
    python -m training.data.overlap duplicates busi --root FOLDER -o pairs.csv --sheet sheet.png
    python -m training.data.overlap ledger cache/lung -o fingerprints.safetensors

A corpus or a benchmark is a prepared cache, a manifest, a known dataset (NAME, in the folder ROOT/NAME, or
NAME=FOLDER), or a folder of your own. Of a dataset that has a locked test part, a benchmark is that part.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from training.data.cache import open_cache
from training.data.corpora import CORPORA
from training.data.corpus.guess import guess_manifest
from training.data.errors import CorpusError, short_errors
from training.data.fingerprints import (
    ASKED,
    FILE,
    KEPT,
    SEEN_AT_MOST,
    FramesOf,
    Ledger,
    LedgerError,
    Overlap,
    compare,
    compare_names,
    decoded,
    make_ledger,
    read_frames,
    read_ledger,
    write_ledger,
)
from training.data.locked_splits import drawn_splits, has_locked_part, locked_groups
from training.data.manifest import Row, read_manifest, write_manifest
from training.data.overlap.neighbors import draw_pairs, find_neighbors, join, write_pairs
from training.data.records import CARDS, ZOO, patients_of, read_record
from usbackbones._files import atomic_write
from usbackbones._words import plural
from usbackbones.clips.read import ClipError
from usbackbones.data.near_duplicates import AT_MOST
from usbackbones.hub.zoo import read_zoo

WEIGHTS = "weights"


def rows_of(name: str, root: Path) -> list[Row]:
    """The clips of a known dataset, a manifest, or a folder of stills and videos.

    Raises:
        CorpusError: if the name stands for none of them.
    """
    known, _, folder = name.partition("=")
    if known in CORPORA:
        return CORPORA[known].rows(Path(folder) if folder else root / known)
    path = Path(name)
    if path.is_file():
        return read_manifest(path)
    if path.is_dir():
        return guess_manifest(path, source=path.resolve().name, apart=True).rows
    raise CorpusError(f"{name!r} is no file, no folder and none of the known datasets: {', '.join(CORPORA)}")


def corpus_of(name: str, root: Path) -> tuple[list[Row], FramesOf]:
    """The clips of a prepared cache, or as `rows_of`, and what reads the frames of one."""
    if not (Path(name) / "index.json").is_file():
        return rows_of(name, root), read_frames
    cache = open_cache(Path(name))
    numbers = {clip.row.clip: number for number, clip in enumerate(cache.clips)}
    return [clip.row for clip in cache.clips], lambda row: cache.clip(numbers[row.clip])


def corpus_ledger(name: str, root: Path) -> Ledger:
    """The ledger of a corpus that a weight is, or could be, trained on."""
    rows, frames_of = corpus_of(name, root)
    return make_ledger(decoded(rows, frames_of=frames_of), KEPT)


def benchmark_ledger(name: str, root: Path) -> Ledger:
    """The ledger of a benchmark; of a dataset with a locked test part, of that part."""
    rows = rows_of(name, root)
    known = name.partition("=")[0]
    if has_locked_part(known):
        locked = locked_groups(known, {row.group for row in rows})
        rows = [row for row in rows if row.group in locked]
    return make_ledger(decoded(rows), ASKED)


def weight_overlap(file: Path, corpus: Mapping[str, Any], benchmark: Ledger) -> Overlap:
    """What a weight has seen of a benchmark: by its ledger, or without one by the names in its record of the corpus."""
    if file.is_file():
        return compare(read_ledger(file), benchmark)
    return compare_names(patients_of(corpus), benchmark)


def overlaps_with_all(file: Path, corpus: Mapping[str, Any], root: Path | None) -> dict[str, Overlap]:
    """What a weight has seen of every locked test part, and of the sets that are there and kept for evaluation.

    Args:
        file: the weight's ledger, if there is one.
        corpus: its record of what it was trained on: sources and groups.
        root: the folder of the datasets' folders; what is not in it is unknown.
    """
    locked = drawn_splits()
    there = {name for name in CORPORA if root is not None and (root / name).is_dir()}
    kept = {name for name in there if not CORPORA[name].pretrain}
    return {
        name: weight_overlap(file, corpus, benchmark_ledger(name, root))
        if root is not None and name in there
        else Overlap("unknown", {})
        for name in sorted(locked | kept)
    }


def overlap(
    corpus: Annotated[str, tyro.conf.Positional],
    benchmarks: Annotated[tuple[str, ...], tyro.conf.Positional],
    root: Path = Path(),
    reasons: bool = False,
) -> None:
    """Say for every weight or corpus and every benchmark: clean, overlap n clips (which), or unknown.

    The commands "duplicates" (inside one corpus) and "ledger" (fingerprints of a corpus, as a file that can be given
    away) have a --help of their own.

    Args:
        corpus: a cache, manifest, dataset or folder that is or could be trained on; "weights" for all published ones.
        benchmarks: datasets, manifests or folders to evaluate on.
        root: the folder that holds a folder for each dataset.
        reasons: say of each clip why it is taken for seen.
    """
    if not benchmarks:
        raise CorpusError("name at least one benchmark: a dataset, a manifest or a folder")
    asked = {name: benchmark_ledger(name, root) for name in benchmarks}
    clean: list[bool] = []
    for name, benchmark, found in _verdicts(corpus, asked, root):
        print(f"{name} | {benchmark} | {found}")  # noqa: T201
        clean.append(found.verdict == "clean")
        for clip, reason in found.clips.items() if reasons else ():
            print(f"    {clip}: {reason}")  # noqa: T201
    if any(clean):
        print(  # noqa: T201
            f"clean: no group of the same source and name, and none of at most {ASKED} frames a clip is within "
            f"{SEEN_AT_MOST} signs of 255 of one of at most {KEPT} frames a clip that were trained on",
            file=sys.stderr,
        )


def _verdicts(corpus: str, benchmarks: Mapping[str, Ledger], root: Path) -> Iterator[tuple[str, str, Overlap]]:
    if corpus == WEIGHTS:
        for weight in read_zoo(ZOO).weights.values():
            trained_on = read_record(weight.name)["corpus"]
            for benchmark, asked in benchmarks.items():
                yield weight.name, benchmark, weight_overlap(CARDS / weight.name / FILE, trained_on, asked)
        return
    seen = corpus_ledger(corpus, root)
    for benchmark, asked in benchmarks.items():
        yield corpus, benchmark, compare(seen, asked)


def duplicates(
    corpus: Annotated[str, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    root: Path = Path(),
    sheet: Path | None = None,
    joined: Path | None = None,
    at_most: int = AT_MOST,
    frames: int = ASKED,
    most: int = 60,
) -> None:
    """List the near-duplicates among clips of different groups, closest first; broken clips are skipped and told.

    Args:
        corpus: a cache, a manifest, a dataset or a folder.
        out: the CSV of pairs to write: ids and labels, no pictures.
        root: the folder that holds a folder for each dataset.
        sheet: a PNG to write with the pairs side by side, to look at.
        joined: a manifest to write in which the groups of near-duplicates are one.
        at_most: signs of 255 that may differ.
        frames: frames looked at of each clip, evenly spaced.
        most: pairs on the sheet; of more the farthest, which are the doubtful ones.
    """
    rows, frames_of = corpus_of(corpus, root)
    broken: dict[str, str] = {}
    pairs = find_neighbors(decoded(rows, frames_of=frames_of, broken=broken), at_most, frames)
    write_pairs(pairs, out)
    together = join(rows, pairs)
    if joined:
        write_manifest(together, joined)
    if sheet:
        with atomic_write(sheet) as stream:
            draw_pairs(pairs[-most:], frames_of).save(stream, format="PNG")
    labels = [(pair.first.label, pair.second.label) for pair in pairs]
    across = [pair for pair, (one, two) in zip(pairs, labels, strict=True) if one and two and one != two]
    read = [row for row in rows if row.clip not in broken]  # of the others nothing is known
    united = [row for row in together if row.clip not in broken]
    clips = {row.clip for pair in pairs for row in (pair.first, pair.second)}
    print(  # noqa: T201
        f"{corpus}: {plural(len(pairs), 'pair')} among {len(clips)} of {plural(len(read), 'clip')}, {len(across)} of "
        f"them across labels; {plural(len({row.group for row in read}), 'group')}, "
        f"{len({row.group for row in united})} when joined"
    )
    if sheet and len(pairs) > most:
        print(f"{sheet}: the {most} farthest of {len(pairs)} pairs")  # noqa: T201
    for pair in across:
        print(f"  {pair.distance:3d}  {pair.first.clip} = {pair.second.clip}")  # noqa: T201
    for clip, reason in broken.items():
        print(f"skipped {clip}: {reason}", file=sys.stderr)  # noqa: T201


def ledger(
    corpus: Annotated[str, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    root: Path = Path(),
) -> None:
    """Write the fingerprints of a corpus: names and signs of spatial frequencies, no pictures.

    Args:
        corpus: a cache, a manifest, a dataset or a folder.
        out: the file to write.
        root: the folder that holds a folder for each dataset.
    """
    made = corpus_ledger(corpus, root)
    write_ledger(made, out)
    size = out.stat().st_size
    print(f"{out}: {plural(len(made.clips), 'clip')}, {plural(len(made.prints), 'frame')}, {size:,} bytes")  # noqa: T201


COMMANDS: dict[str, Callable[..., None]] = {"duplicates": duplicates, "ledger": ledger}


def main(arguments: Sequence[str]) -> None:
    """Run the command line; a refusal is a line and exit code 2."""
    name = "python -m training.data.overlap"
    with short_errors(CorpusError, ClipError, LedgerError):
        if arguments and arguments[0] in COMMANDS:
            tyro.cli(COMMANDS[arguments[0]], prog=f"{name} {arguments[0]}", args=arguments[1:])
        else:
            tyro.cli(overlap, prog=name, args=arguments)
