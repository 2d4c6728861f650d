"""usbackbones probe: how well frozen features tell the classes of labelled data apart."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from usbackbones._words import intervals_over, with_interval
from usbackbones.cli.options import AsJson, Count, Out, Sheet, check_cleaning, write_preview
from usbackbones.cli.terminal import (
    WIDTH,
    CommandError,
    in_columns,
    listed,
    network,
    noted,
    say,
    say_counts,
    say_json,
    tell_run,
)

if TYPE_CHECKING:
    from usbackbones.probing.evaluate import Probed


def probe_command(
    data: Positional[Path],
    out: Out = Path("probe"),
    model: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = (),
    target: Literal["auto", "class", "number"] = "auto",
    size: Count = None,
    group_from: str = "",
    folds: int = 5,
    per_clip: int = 8,
    clean: bool = False,
    preview: Sheet = None,
    shots: tuple[str, ...] = (),
    repeats: int = 5,
    batch: int = 32,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Fit kNN and linear probes on frozen features and evaluate them on groups that they never saw.

    DATA is a folder of class folders or a CSV with path and label, and if known split and a column that tells patients
    apart (group, patient, patient_id, subject). Several models are compared in pairs.

    Args:
        data: the folder or the table; no patient is divided whom a column, DICOM header or --group-from tells.
        out: the folder to write.
        model: ARCH.TAG, timm names, local-dir:DIR or random:ARCH; the default weight if none is named.
        target: labels are classes or numbers (ridge probes: MAE, R2, limits of agreement); "auto" decides and says so.
        size: side of the input in pixels, if not each model's own; for a ViT a multiple of its patch.
        group_from: a regular expression that finds the group in a file's name, as '^([0-9]+)_'.
        folds: of the groups, where the data have no split.
        per_clip: frames of a clip, evenly spread.
        clean: cut clips to the sector, text and calipers black.
        preview: write an image of some clips before and after --clean, and stop.
        shots: labelled groups of a class, as 5, or a share, as 10%.
        repeats: draws for each of the shots.
        batch: frames embedded at a time.
        seed: of folds, draws and intervals.
        pictures: show frames, clips and groups in report.html, which then holds patient data.
        as_json: print the metrics as JSON.
    """
    if folds < 2 or min(per_clip, repeats, batch) < 1:
        raise CommandError(
            f"--folds {folds} --per-clip {per_clip} --repeats {repeats} --batch {batch}: at least 2, 1, 1 and 1"
        )
    for shot in shots:
        number = shot.removesuffix("%")
        if not number.isdigit() or int(number) < 1 or (shot != number and int(number) > 100):
            raise CommandError(f"--shots {shot}: give a number of groups, as 5, or a percentage of them, as 10%")
    from usbackbones._run_folder import apart
    from usbackbones.data.dataset import read_items
    from usbackbones.data.targets import decide_target
    from usbackbones.hub.backbone import full_name

    if preview:
        write_preview(lambda: [item.path for item in read_items(data, group_from, noted)], preview)
        return
    check_cleaning(clean)
    apart(out, data)
    items = read_items(data, group_from, noted)
    kind = decide_target(items, target, noted)
    names = list(dict.fromkeys(full_name(name) for name in model or (None,)))
    if kind == "number" and shots:
        raise CommandError(f"--shots {shots[0]}: few labels are for classes, and these labels are numbers")
    from usbackbones.probing.evaluate import ProbeSpec
    from usbackbones.probing.run import probe

    spec = ProbeSpec(folds, per_clip, tuple(shots), repeats, batch, seed, clean)
    begun = monotonic()
    models = {name: network(name, size=size) for name in names}
    done = probe(items, models, out, spec, kind, pictures=pictures, note=noted)
    tell_run(done, out, monotonic() - begun)
    if done.beside:
        noted(done.beside)
    if as_json:
        say_json(asdict(done) | {"folder": out})
        return
    say_counts(done)
    say("")
    for row in _table(done):
        say(row)
    say(f"\n{intervals_over(done.groups, done.unit, joined=bool(done.joined))}. Not a medical device.")
    say(f"{out}: metrics.json (all metrics), predictions.csv, report.html")


def _table(done: "Probed") -> list[str]:
    """The headline level's metrics: a line a model, for classes one of chance, then a line each two models."""
    from usbackbones.hub.registry import OWNER

    every = {**done.metrics, **done.differences}
    if not done.classes:
        return [
            f"{name}, by {done.unit or done.level}: {listed(of_probe['ridge'][done.level])}"
            for name, of_probe in every.items()
        ]
    kinds, key = list(next(iter(done.metrics.values()))), "balanced_accuracy"
    rows = [
        [name.replace(OWNER, ""), *(_cell(of[kind][done.level][key]) for kind in kinds)] for name, of in every.items()
    ]
    rows.insert(len(done.metrics), ["chance", *[f"{1 / len(done.classes):.3f}"] * len(kinds)])
    return in_columns([[f"balanced accuracy by {done.unit or done.level}", *kinds], *rows], WIDTH)


def _cell(numbers: Mapping[str, float]) -> str:
    """A value with its interval in as few columns as it goes; metrics.json has why there is none."""
    return with_interval(numbers).partition(":")[0] + ")" * (":" in with_interval(numbers))
