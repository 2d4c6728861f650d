"""Models beside each other on the tasks, with the rows that keep a table honest.

    python -m training.benchmark.leaderboard usbackbones/resnet18.TAG --tasks lung organ --data FOLDER

A MODEL is `usbackbones/ARCH.TAG`, `run:FOLDER` of training.pretrain (`run:FOLDERS*` for several seeds as one row),
`local-dir:FOLDER`, any name that timm knows, or `random:ARCH`. For every architecture the rows SimCLR, ImageNet and
random are always there, run or not, and for every task the cues that are no medicine: `cue:container`, `cue:geometry`
and `cue:border`, features without a network under the same probes. The default evaluates on the locked test parts:
probes are fitted on the pretraining part, their penalty is chosen inside it, and the metrics alone read test labels.
Every other choice is made with `--part inner`, which cross-validates inside the pretraining part and never opens a test
clip. A backbone that was pretrained on those very clips looks too good there; to choose a recipe, pretrain without some
groups and evaluate on them, as `training.study.run` does.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from training.benchmark.evaluate import Columns, seen_groups, task_report
from training.benchmark.html_report import write_comparison
from training.benchmark.markdown import summary
from training.benchmark.models import entries
from training.benchmark.protocol import Protocol
from training.benchmark.tasks import load_task
from training.data.errors import refuse_unwritable, short_errors
from usbackbones._files import atomic_write

PLACES = ("--json", "--page", "--report", "--cache")
"""Options that only say where something is written."""


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command that was given, as it was typed but for what is nobody's business: where files went, and the home."""
    kept, left = [], iter(arguments)
    for argument in left:
        name, _, value = argument.partition("=")
        if name not in PLACES:
            kept.append(argument.replace(str(Path.home()), "~"))
        elif not value:
            next(left, None)
    return shlex.join(["python", "-m", module, *kept])


@short_errors(ValueError, RuntimeError)
def main(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    data: Path,
    tasks: tuple[str, ...] = ("lung",),
    control: tuple[str, ...] = (),
    part: Literal["test", "inner", "unseen"] = "test",
    size: int | None = None,
    seeds: int = 5,
    shots: tuple[str, ...] = ("1", "5", "10"),
    legacy_epochs: int = 30,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    report: Path | None = None,
    cache: Path = Path("cache"),
    bf16: bool = False,
) -> None:
    """Print one table a task.

    Args:
        models: usbackbones/ARCH.TAG, run:FOLDER of training.pretrain, local-dir:FOLDER, any timm name, or random:ARCH.
        data: folder that holds a folder for each dataset.
        tasks: names of tasks; a wrong one lists them.
        control: run:FOLDER of SimCLR runs, for the row that is always there.
        part: evaluate on the locked test groups; cross-validate without them to make a choice; or cross-validate on all
            clips of groups that no weight of the table was pretrained on, for sets whose locked part is small.
        size: side of every network's input in pixels; by default each pretrained network's own. Random networks
            take size, mean and std of the first pretrained one of their architecture.
        seeds: random networks of each architecture, draws of the few-shot groups, and divisions of the inner part.
        shots: labelled groups of each class for the few-shot columns.
        legacy_epochs: of the head that is trained for the legacy column; 0 leaves it out.
        json_file: write all numbers here, as summary.json.
        report: write a page with pictures here, as report.html.
        cache: folder for decoded frames and features.
        bf16: compute features in bfloat16.
    """
    command = command_line("training.benchmark.leaderboard", sys.argv[1:])
    refuse_unwritable(json_file, report)
    protocol = Protocol(part=part, bf16=bf16, shots=shots, draws=seeds, repeats=seeds)
    columns = Columns(overlap=True, legacy=legacy_epochs)
    loaded = [load_task(name, data, cache) for name in tasks]
    rows = entries(models, size, seeds, always=True, controls=control)
    if part == "unseen":
        seen = set().union(*map(seen_groups, rows))
        loaded = [task.unseen(seen) for task in loaded]
    reports = [task_report(task, rows, protocol, columns, command, cache) for task in loaded]
    found: dict[str, Any] = {"command": command, "tasks": {one["task"]: one for one in reports}}
    print(summary(found))  # noqa: T201
    if json_file:
        with atomic_write(json_file, "w") as stream:
            json.dump(found, stream, indent=1)
    if report:
        write_comparison(report, found, loaded, rows, cache, bf16)


if __name__ == "__main__":
    tyro.cli(main)
