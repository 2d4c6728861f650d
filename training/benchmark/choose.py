"""Choose among weights on inner folds of sets that none of them saw, and print the choice; no locked clip is opened.

    python -m training.benchmark.choose usbackbones/resnet18.uscl_open3 run:FOLDER --data FOLDER --bf16

The weight inside the package is chosen so. A number is the balanced accuracy of clips by the linear probe, the mean of
`--repeats` divisions into five folds that divide no group; chosen is the weight with the highest mean over the tasks.
Notes above the choice say what stands against it: a margin that some division takes away, a weight of unknown corpus.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from training.benchmark.evaluate import overlap, seen_groups
from training.benchmark.markdown import table
from training.benchmark.models import entries
from training.benchmark.protocol import Protocol, compare, predict
from training.benchmark.tasks import load_task
from training.data.errors import CorpusError, short_errors
from usbackbones._words import plural, rounded

TASKS = ("busi", "gallbladder")
"""Sets that are never pretrained on, so that their part for choices is new to every weight."""


def choice(scores: Mapping[str, Mapping[str, float]]) -> str:
    """The name whose mean over the tasks is highest; of equal ones the first.

    Raises:
        CorpusError: if a score is not a number, for then no order is known.
    """
    broken = [f"{name} on {task}" for name, of in scores.items() for task, one in of.items() if not math.isfinite(one)]
    if broken:
        raise CorpusError(f"no choice: the balanced accuracy of {', '.join(broken)} is not a number")
    return max(scores, key=lambda name: mean_of(scores[name]))


def mean_of(scores: Mapping[str, float]) -> float:
    """The mean over the tasks."""
    return sum(scores.values()) / len(scores)


def doubts(
    chosen: str, scores: Mapping[str, Mapping[str, float]], divisions: Mapping[str, Sequence[float] | np.ndarray]
) -> Iterator[str]:
    """What stands against a choice: equal weights, and those that a division puts before it.

    Args:
        chosen: of the scores.
        scores: {name: {task: mean over the divisions}}.
        divisions: {name: of each division the mean over the tasks}; the same divisions for all.
    """
    for name in scores:
        if name == chosen:
            continue
        margins = np.subtract(divisions[chosen], divisions[name])
        by = mean_of(scores[chosen]) - mean_of(scores[name])
        if abs(by) < 1e-12:
            yield f"{name} has the same mean as {chosen}; of equal weights the one named first is chosen"
        elif len(margins) < 2:
            yield f"the margin over {name} is {rounded(by)} on one division, so that its spread is not known"
        elif margins.min() <= 0:
            ends = f"{rounded(margins.min())} to {rounded(margins.max())}"
            yield (
                f"the margin over {name} is {rounded(by)} and was {ends} in {plural(len(margins), 'division')}: "
                "other folds could choose otherwise"
            )


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
    divisions = {row.name: np.zeros(repeats) for row in rows}
    notes = []
    for name in tasks:
        task = load_task(name, data, cache)
        if task.kind != "classes":
            raise CorpusError(f"{name} has no classes, so it has no balanced accuracy to choose by")
        groups = {(row.source, row.group.removeprefix(f"{row.source}/")) for row in task.rows}
        for row in rows:
            if shared := groups & seen_groups(row):
                raise CorpusError(
                    f"{row.name} was pretrained on {plural(len(shared), 'group')} of {name}: choose on another task"
                )
            if overlap(row, task, protocol) == "unknown":
                notes.append(f"what {row.name} was pretrained on is not recorded: it may have seen clips of {name}")
            found = compare(predict(row.members, task, protocol, cache), task, protocol)
            told = found["linear"]["clip"]["balanced_accuracy"]
            scores[row.name][name] = told["value"]
            divisions[row.name] += np.reshape(told["members"], (-1, repeats)).mean(0) / len(tasks)
    chosen = choice(scores)
    notes += doubts(chosen, scores, divisions)
    cells = [[name, *(f"{number:.3f}" for number in (*of.values(), mean_of(of)))] for name, of in scores.items()]
    lines = [*table(["model", *tasks, "mean"], cells), "", *(f"note: {note}" for note in notes), f"chosen: {chosen}"]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    with short_errors(CorpusError):
        tyro.cli(main, prog="python -m training.benchmark.choose")
