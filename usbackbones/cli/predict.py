"""usbackbones predict: a trained model on new clips."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from tyro.conf import Positional

from usbackbones.cli.options import AsJson, Out, Trained
from usbackbones.cli.terminal import CommandError, noted, say, say_json, tell


def predict_command(
    model: Trained,
    paths: Positional[tuple[Path, ...]],
    out: Out,
    group_from: str = "",
    size: int | None = None,
    batch: int = 32,
    stride: int = 1,
    overwrite: bool = False,
    as_json: AsJson = False,
) -> None:
    """Predict clips with a folder that finetune or segment wrote; the same command again continues.

    A clip that cannot be read gets a row with its error. Every output says which weights, version and command made it.

    Args:
        model: the folder of the trained model, which knows its preprocessing; or hf-hub:OWNER/NAME, or a timm name.
        paths: clips, folders, zips of stills, or lists of paths (.txt, .csv); - is a list on standard input.
        out: a .csv or .parquet file with a row a frame, clip means beside it; or a folder, needed for masks.
        group_from: a regular expression that finds the patient in a file's name, as '^([0-9]+)_'.
        size: side of the input, pixels, if not the training's.
        batch: frames computed at a time.
        stride: every stride-th frame of a clip.
        overwrite: replace an earlier output of this name, with its masks and overlays.
        as_json: print what was written as JSON.
    """
    from usbackbones._words import plural
    from usbackbones.predicting.run import predict

    if not paths:
        raise CommandError("name at least one clip, folder or list to predict")
    command = shlex.join(["usbackbones", *sys.argv[1:]])
    done = predict(
        model, paths, out, group_from=group_from, size=size, batch=batch, stride=stride, overwrite=overwrite,
        command=command, note=noted,
    )  # fmt: skip
    if done.was_finished:
        tell(f"{done.frames} holds this very run, finished: nothing was done")
    for line in done.warnings:
        tell(f"warning: {line}")
    if as_json:
        say_json(asdict(done))
        return
    say(f"{done.frames}: {plural(done.predicted, 'clip')} predicted, {done.errors} could not be read (column error)")
    say(f"means over clips: {done.clips}; what made them: {done.about}")
    if done.calibration:
        say(done.calibration)
    say(f"license of the weights: {done.license or 'not stated'}")
    say("For research, not a medical device.")
    if done.errors and not done.predicted:
        raise CommandError(f"none of {plural(done.errors, 'clip')} could be read: the column error says why")
