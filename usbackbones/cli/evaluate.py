"""usbackbones evaluate: a trained classifier, regressor or segmenter on an external labelled set."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from usbackbones._words import intervals_over
from usbackbones.cli.options import AsJson, Classes, Foreground, Label, Out, ResizeMasks, Trained
from usbackbones.cli.terminal import CommandError, listed, say, tell


def evaluate_command(
    model: Trained,
    data: Positional[Path],
    out: Out,
    group_from: str = "",
    positive: str = "",
    by: tuple[str, ...] = (),
    label: Label = "label",
    names: Annotated[tuple[str, ...], arg(name="map", metavar="LABEL=CLASS")] = (),
    foreground: Foreground = "",
    classes: Classes = "",
    resize_masks: ResizeMasks = "",
    frames: int = 8,
    size: int | None = None,
    batch: int = 32,
    seed: int = 0,
    pictures: bool = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a folder that finetune or segment wrote on labelled data that it was not trained on; nothing is trained.

    Args:
        model: the folder of the trained model; or hf-hub:OWNER/NAME, or a timm name with a classifier.
        data: a folder of class folders, or a CSV with path and label; for a segmenter images with masks.
        out: the folder to write: metrics.json, predictions.csv, report.html; of a segmenter masks and overlay.png too.
        group_from: a regular expression that finds the patient in a file's name.
        positive: of two classes the one whose sensitivity is reported; by default the second by name.
        by: columns of the CSV, each for a table of its subgroups.
        label: the column of the CSV that is the label.
        names: a label of the data and the class of the model that it is; LABEL= leaves its clips out.
        foreground: values of the masks that are the structure, as 1,2.
        classes: value of each structure in the masks, as nerve=1,artery=2; by default those of the training.
        resize_masks: bring masks to the size of their image.
        frames: of a clip, evenly spaced.
        size: side of the input, pixels, if not the training's.
        batch: frames computed at a time.
        seed: of the bootstrap.
        pictures: name files and groups, and show images, in report.html, which then holds patient data.
        as_json: print the metrics as JSON.
    """
    from usbackbones.data.patients import counted
    from usbackbones.metrics.levels import distinct
    from usbackbones.predicting.evaluate import evaluate
    from usbackbones.predicting.report import told

    command = shlex.join(["usbackbones", *sys.argv[1:]])
    if wrong := [pair for pair in names if "=" not in pair]:
        raise CommandError(f"--map {wrong[0]}: give LABEL=CLASS, or LABEL= to leave its clips out")
    pairs = {label: own for label, _, own in (pair.rpartition("=") for pair in names)}
    done = evaluate(
        model, data, out, group_from=group_from, positive=positive, by=by, label=label, names=pairs,
        foreground=foreground, classes=classes, resize_masks=resize_masks, frames_per_clip=frames, size=size,
        batch=batch, seed=seed, pictures=pictures, command=command,
    )  # fmt: skip
    for line in done.skipped:
        tell(f"skipped: {line}")
    for line in done.notes:
        tell(f"note: {line}")
    if as_json:
        say((out / "metrics.json").read_text(encoding="utf-8"))
        return
    for level in distinct(done.metrics):
        say(f"by {done.unit if level == 'patient' else level}: {listed(done.metrics[level], told)}")
    for name, numbers in [*done.rates.items(), *done.structures.items()]:
        say(f"{name}: {listed(numbers, told)}")
    for column, values in done.subgroups.items():
        for value, of in values.items():
            say(f"{column} {value}: {done.headline.replace('_', ' ')} {told(of)}, {counted(of, done.unit)}")
    say(f"license of the weights: {done.license or 'not stated'}")
    say(f"{intervals_over(done.counts['groups'], done.unit)}. Not a medical device.")
    say(f"look at it: {out / 'report.html'}")
