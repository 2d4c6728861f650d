"""usbackbones evaluate: a trained classifier on an external labelled set."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from usbackbones.cli.terminal import AsJson, CommandError, Out, say, tell


def evaluate_command(
    model: Annotated[Positional[Path], arg(metavar="FOLDER")],
    data: Positional[Path],
    out: Out,
    group_from: str = "",
    positive: str = "",
    by: tuple[str, ...] = (),
    frames: int = 8,
    size: int | None = None,
    batch: int = 32,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a folder that finetune wrote on labelled clips that it was not trained on; nothing is trained.

    Args:
        model: the folder of the trained classifier.
        data: a folder of class folders, or a CSV with path and label.
        out: the folder to write: metrics.json, predictions.csv, report.html.
        group_from: a regular expression that finds the patient in a file's name.
        positive: of two classes the one whose sensitivity is reported; by default the second by name.
        by: columns of the CSV, each for a table of its subgroups.
        frames: of a clip, evenly spaced.
        size: side of the input, pixels, if not the training's.
        batch: frames computed at a time.
        seed: of the bootstrap.
        pictures: name files and groups in report.html, which then holds patient data.
        as_json: print the metrics as JSON.
    """
    from usbackbones.data.item import DataError
    from usbackbones.predicting.evaluate import evaluate
    from usbackbones.predicting.trained import PredictError

    command = shlex.join(["usbackbones", *sys.argv[1:]])
    try:
        done = evaluate(
            model, data, out, group_from=group_from, positive=positive, by=by, frames_per_clip=frames, size=size,
            batch=batch, seed=seed, pictures=pictures, command=command,
        )  # fmt: skip
    except (PredictError, DataError) as error:
        raise CommandError(str(error)) from error
    for line in done.skipped:
        tell(f"skipped: {line}")
    for line in done.notes:
        tell(f"note: {line}")
    if as_json:
        say((out / "metrics.json").read_text(encoding="utf-8"))
        return
    for level, metrics in done.metrics.items():
        shown = (f"{name.replace('_', ' ')} {_told(of)}" for name, of in metrics.items())
        say(f"by {done.unit if level == 'patient' else level}: {', '.join(shown)}")
    for name, by_rate in done.rates.items():
        say(f"{name}: {', '.join(f'{rate} {_told(value)}' for rate, value in by_rate.items())}")
    for column, values in done.subgroups.items():
        for value, of in values.items():
            say(f"{column} {value}: balanced accuracy {_told(of)}, {of['clips']} clips of {of['groups']} groups")
    say(f"brackets: 95 % intervals over {done.unit or 'file'}s. Not a medical device.")
    say(f"look at it: {out / 'report.html'}")


def _told(of: Mapping[str, float]) -> str:
    return (
        f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]" if of["value"] == of["value"] else "nothing to count"
    )
