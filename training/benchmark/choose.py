"""Choose among weights on inner folds of sets that none of them saw, and print the choice; no locked clip is opened.

    python -m training.benchmark.choose usbackbones/resnet18.uscl_open3 run:FOLDER --data FOLDER --bf16

The weight inside the package is chosen so. A number is the balanced accuracy of clips by the linear probe, the mean of
`--repeats` divisions into five folds that divide no group; chosen is the weight with the highest mean over the tasks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro

from training.benchmark.evaluate import seen_groups
from training.benchmark.markdown import table
from training.benchmark.models import entries
from training.benchmark.protocol import Protocol, compare, predict
from training.benchmark.tasks import load_task
from training.data.errors import CorpusError, short_errors

TASKS = ("busi", "gallbladder")
"""Sets that are never pretrained on, so that their part for choices is new to every weight."""


def choice(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The name whose mean over the tasks is highest; of equal ones the first."""
    return max(scores, key=lambda name: sum(scores[name].values()) / len(scores[name]))


def main(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    data: Path,
    tasks: tuple[str, ...] = TASKS,
    repeats: int = 3,
    bf16: bool = False,
    cache: Path = Path("cache"),
) -> None:
    """Print the numbers of each weight and the choice.

    Args:
        models: usbackbones/ARCH.TAG, run:FOLDER of training.pretrain or local-dir:FOLDER, two or more.
        data: folder that holds a folder for each dataset.
        tasks: names of tasks with classes that no weight was pretrained on.
        repeats: how often each task is divided into five folds.
        bf16: compute features in bfloat16.
        cache: folder for decoded frames and features.
    """
    protocol = Protocol(part="inner", repeats=repeats, bf16=bf16)
    rows = entries(models, None, 1)
    missing = [f"{row.name}: {row.why_not}" for row in rows if not row.members]
    if missing or len(rows) < 2:
        raise CorpusError("; ".join(missing) or "a choice is among two weights or more: name another")
    scores: dict[str, dict[str, float]] = {row.name: {} for row in rows}
    for name in tasks:
        task = load_task(name, data, cache)
        if task.kind != "classes":
            raise CorpusError(f"{name} has no classes, so it has no balanced accuracy to choose by")
        groups = {(row.source, row.group.removeprefix(f"{row.source}/")) for row in task.rows}
        for row in rows:
            if shared := groups & seen_groups(row):
                raise CorpusError(
                    f"{row.name} was pretrained on {len(shared)} groups of {name}: choose on another task"
                )
            found = compare(predict(row.members, task, protocol, cache), task, protocol)
            scores[row.name][name] = found["linear"]["clip"]["balanced_accuracy"]["value"]
    cells = []
    for model, of in scores.items():
        numbers = [*of.values(), sum(of.values()) / len(of)]
        cells.append([model, *(f"{number:.3f}" for number in numbers)])
    print("\n".join([*table(["model", *tasks, "mean"], cells), "", f"chosen: {choice(scores)}"]))  # noqa: T201


if __name__ == "__main__":
    with short_errors(CorpusError):
        tyro.cli(main, prog="python -m training.benchmark.choose")
