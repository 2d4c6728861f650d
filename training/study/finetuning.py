"""Fine-tuned network beside its frozen probe on inner folds: python -m training.study.finetuning --model NAME ...

Each task keeps its locked part shut: a third of the groups of its other part stands in for it, in turn. A finished fold
is not repeated, and one line of JSON a fold goes to the log: give the same command again to go on.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from training.benchmark.imagenet import shown_name
from training.benchmark.markdown import table, write_between
from training.benchmark.task import Task
from training.data.errors import append_line, short_errors
from training.data.manifest import Row
from training.study.run import FOLDS, held_out
from usbackbones._files import atomic_write
from usbackbones.finetuning.run import defaults_for, finetune
from usbackbones.hub.backbone import full_name

LOG = Path(__file__).parent / "studies" / "finetuning.jsonl"
DOCUMENT = Path("docs/from-imagenet.md")
TASKS = ("busi", "gallbladder", "lung")


@dataclass(frozen=True)
class Fold:
    """Balanced accuracy and AUROC by clip of one fold.

    Attributes:
        task: of `training.benchmark.tasks`.
        model: as it was named; a folder goes by its last part.
        fold: which third was tested on.
        items: stills or clips, those of the third among them.
        groups: of the third.
        frozen: the linear probe on the frozen features, from which fine-tuning starts.
        tuned: after fine-tuning.
        frozen_auroc: AUROC of the former.
        tuned_auroc: of the latter.
        kept: the fine-tuned weights, not the probe, see `FineTune.margin`.
        lr: the learning rate that the validation part chose.
        epochs: that were run.
    """

    task: str
    model: str
    fold: int
    items: int
    groups: int
    frozen: float
    tuned: float
    frozen_auroc: float
    tuned_auroc: float
    kept: bool
    lr: float
    epochs: int


def read_log(file: Path = LOG) -> list[Fold]:
    """All folds that were measured."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [Fold(**json.loads(line)) for line in lines]


def limited(rows: Sequence[Row], most: int) -> list[Row]:
    """Whole groups, in the order of a hash of their names, while they have at most so many clips together."""
    order = sorted({row.group for row in rows}, key=lambda group: hashlib.sha256(group.encode()).digest())
    kept, count = set(), 0
    for group in order:
        count += sum(row.group == group for row in rows)
        if count > most:
            break
        kept.add(group)
    return [row for row in rows if row.group in kept]


def write_table(task: Task, most: int, file: Path) -> tuple[int, int]:
    """Write the CSV that `finetune` reads, the held-out third as its test part; its rows, and groups of that part."""
    rows = limited([*task.rows, *task.test_rows], most)
    held = {row.group for row in task.test_rows}
    with atomic_write(file, "w") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group", "split"])
        table.writerows(
            [Path(row.path).resolve(), row.label, row.group, "test" if row.group in held else "train"] for row in rows
        )
    return len(rows), len(held & {row.group for row in rows})


def table_of(folds: Iterable[Fold]) -> str:
    """The Markdown table: the mean over folds, in brackets the lowest and the highest fold."""
    by_row: dict[tuple[str, str], list[Fold]] = {}
    for fold in folds:
        by_row.setdefault((fold.task, fold.model), []).append(fold)
    rows = []
    for (task, model), found in sorted(by_row.items(), key=lambda row: (TASKS.index(row[0][0]), row[0][1])):
        names = ("frozen", "tuned", "frozen_auroc", "tuned_auroc")
        frozen, tuned, *areas = (np.array([getattr(fold, name) for fold in found]) for name in names)
        gains = (_spread(after - before, "+") for before, after in ((frozen, tuned), areas))
        kept = f"{sum(fold.kept for fold in found)} of {len(found)}"
        rows.append(
            [task, model, str(max(fold.items for fold in found)), kept, _spread(frozen), _spread(tuned), *gains]
        )
    head = ["task", "model", "items", "tuned kept", "frozen probe", "fine-tuned", "gain", "gain of AUROC"]
    return "\n".join(table(head, rows))


def _spread(x: np.ndarray, sign: str = "") -> str:
    return f"{x.mean():{sign}.3f} [{x.min():{sign}.3f}, {x.max():{sign}.3f}]"


def main(
    data: Path,
    out: Path,
    model: tuple[str, ...] = (),
    task: tuple[str, ...] = TASKS,
    most: int = 600,
    fold: tuple[int, ...] = tuple(range(FOLDS)),
    log: Path = LOG,
    document: Path = DOCUMENT,
) -> None:
    """Fine-tune models on the inner folds with the package's defaults, and write the table of all that the log holds.

    Args:
        data: folder that holds a folder for each dataset.
        out: folder for the runs; it is needed to go on and can be removed afterwards.
        model: any names that `usbackbones finetune` takes; none to write the table again.
        task: which tasks.
        most: stills or clips of a task, whole groups in the order of a hash of their names.
        fold: of three, which thirds to hold out.
        log: where measurements are kept.
        document: whose table to write.
    """
    done = {(found.task, found.model, found.fold) for found in read_log(log)}
    for name in task:
        for number in fold:
            for given in model:
                shown = shown_name(given)
                if (name, shown, number) in done:
                    continue
                folder = out / name / shown.replace("/", "-").replace(":", "-") / str(number)
                folder.parent.mkdir(parents=True, exist_ok=True)
                items, groups = write_table(held_out((name,), data, number)[name], most, folder.with_suffix(".csv"))
                tuned = finetune(folder.with_suffix(".csv"), full_name(given), folder, defaults_for(full_name(given)))
                frozen, best, frozen_area, area = (
                    round(of["clip"][metric]["value"], 4)
                    for metric in ("balanced_accuracy", "auroc")
                    for of in (tuned.frozen, tuned.metrics)
                )
                kept, lr = not tuned.probe_kept, round(tuned.lr, 6)
                found = Fold(
                    name, shown, number, items, groups, frozen, best, frozen_area, area, kept, lr, tuned.epochs
                )
                append_line(log, json.dumps(asdict(found)))
    write_between(document, "fine-tuned", table_of(read_log(log)))


if __name__ == "__main__":
    with short_errors(ValueError):
        tyro.cli(main)
