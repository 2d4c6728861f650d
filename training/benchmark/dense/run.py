"""Backbones beside each other below a U-Net, with the rows that keep a table honest.

    python -m training.benchmark.dense usbackbones/resnet18.TAG --tasks busi_lesion hc18_head --data FOLDER

A MODEL is `usbackbones/ARCH.TAG`, `local-dir:FOLDER`, any name that timm knows, or `random:ARCH`. For every
architecture the rows SimCLR, ImageNet and random are always there, run or not. The default evaluates on a quarter of
the groups that are not locked and opens no locked file; `--part test` fits on all of those groups and evaluates on the
locked ones, once every choice is made.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from training.benchmark.cues import is_cue
from training.benchmark.dense.evaluate import dense_report
from training.benchmark.dense.task import DenseProtocol, load_dense_task
from training.benchmark.leaderboard import command_line
from training.benchmark.markdown import summary
from training.benchmark.models import Entry, entries
from training.data.errors import refuse_unwritable, short_errors
from usbackbones._files import atomic_write


def dense_entries(names: Sequence[str], control: str = "") -> list[Entry]:
    """The rows of a table, as `entries` has them, but for cues, which are features of whole images."""
    rows = entries(names, None, 1, always=True, controls=[control] if control else [], channels=1)
    return [row for row in rows if not is_cue(row.name) and not (control and row.name.startswith("SimCLR "))]


@short_errors(ValueError, RuntimeError)
def main(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    data: Path,
    tasks: tuple[str, ...] = ("busi_lesion",),
    control: str = "",
    part: Literal["test", "inner"] = "inner",
    encoder: Literal["frozen", "tuned"] = "tuned",
    size: int = 224,
    epochs: int = 10,
    batch: int = 8,
    lr: float = 1e-3,
    seeds: int = DenseProtocol.seeds,
    most: int = 0,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print one table a task.

    Args:
        models: usbackbones/ARCH.TAG, local-dir:FOLDER, any timm name, or random:ARCH.
        data: folder that holds a folder for each dataset.
        tasks: names of dense tasks; a wrong one lists them.
        control: a SimCLR run, as run:FOLDER, or weight, as local-dir:FOLDER, for the row that is always there.
        part: evaluate on the locked test groups, or without them to make a choice.
        encoder: keep it as it is, or fine-tune it with the decoder.
        size: side of the square that pictures are squashed to, a multiple of 32.
        epochs: passes over the pictures, for every row; the last counts.
        batch: pictures in a batch.
        lr: peak rate, for every row.
        seeds: U-Nets of each row.
        most: pictures to learn from at most, by a hash of their groups' names; 0 is all.
        json_file: write all numbers here.
    """
    command = command_line("training.benchmark.dense", sys.argv[1:])
    refuse_unwritable(json_file)
    protocol = DenseProtocol(part, encoder, size, epochs, batch, lr, seeds)
    loaded = [load_dense_task(name, data, most) for name in tasks]
    rows = dense_entries(models, control)
    reports = {task.name: dense_report(task, rows, protocol, command) for task in loaded}
    told = {"command": command, "tasks": reports}
    print(summary(told))  # noqa: T201
    if json_file:
        with atomic_write(json_file, "w") as stream:
            json.dump(told, stream, indent=1)
