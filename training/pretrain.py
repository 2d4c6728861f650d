"""Pretrain a backbone: python -m training.pretrain RECIPE --data CACHE_OR_MANIFEST [--out FOLDER] [--any.field value].

    python -m training.pretrain --list
    python -m training.pretrain uscl --arch resnet18 --data cache/lung
    python -m training.pretrain uscl --data manifest.csv --augment.size 128 --steps 2000
    torchrun --nproc-per-node 8 -m training.pretrain uscl --data cache/lung

The run folder holds recipe.json, corpus.json, environment.json, metrics.jsonl, the checkpoints, loss.png, rankme.png
and summary.json. Stop it with Ctrl-C or SIGTERM, or kill it: the same command continues from the last checkpoint.
More than one process, memory and cost: docs/scale.md.
"""

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from training.data.errors import CorpusError, line_of
from training.engine.checkpoint import written_or_told
from training.engine.curves import draw_loss, draw_rankme
from training.engine.dataloaders import ViewsOn, divide, open_data, step_batches, views_on
from training.engine.log import Mirror, read_journal
from training.engine.loop import Engine
from training.engine.prepare_model import build
from training.engine.process import keep_pages, same_bits
from training.engine.run_folder import AVERAGED, describe_corpus, describe_recipe, environment, write_json
from training.engine.validate import refuse_impossible
from training.errors import TrainingError
from training.nn.distributed import joined, rank, world_size
from training.nn.meta_gradient import LookaheadError
from training.recipes import RECIPES, Recipe
from usbackbones._words import plural
from usbackbones.data.splits import SplitError
from usbackbones.features.precision import emulates_bf16


@dataclass(frozen=True)
class Run:
    """A recipe on a corpus.

    Attributes:
        recipe: what to do.
        data: a folder made by training.data.prepare.run, or a manifest CSV, which is then prepared beside itself.
        out: the run folder; by default runs/<recipe>-<arch>-seed<seed>.
        workers: loader processes; by default none on a CPU or where the frames are on the GPU, else one a core but
            for one, at most 8.
        checkpoint_every: steps between checkpoints, each with a look at the representation.
        resume: "auto" continues from the run folder's newest checkpoint that can be read, and begins where there is
            none; "never" starts again and removes those that are there; or the checkpoint to continue from.
        views_on: where views are made: on the "cpu", or, with the same gray levels, on the "device". "auto" is the
            device if that is a GPU and the augmentation has a form for it.
        deterministic: on a GPU, compute the same bits every time, somewhat slower; a CPU does so anyway.
        mirror: where the numbers of metrics.jsonl go as well; needs that package.
        dry_run: print the recipe and what it would read, and stop.
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    data: Path
    out: Path | None = None
    workers: int | None = None
    checkpoint_every: int = 100
    resume: Literal["auto", "never"] | Path = "auto"
    views_on: ViewsOn = "auto"
    deterministic: bool = False
    mirror: tuple[Mirror, ...] = ()
    dry_run: bool = False


def pretrain(run: Run, name: str, command: str = "", progress: bool = True) -> Path:
    """Carry a run out, from the beginning or from its last checkpoint, and return its folder.

    `name` is the recipe it was derived from; the command line goes into the record.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with same_bits(device, run.deterministic):
        return _pretrained(run, name, command, progress, device)


def _pretrained(run: Run, name: str, command: str, progress: bool, device: torch.device) -> Path:
    recipe = run.recipe
    refuse_impossible(recipe, workers=run.workers or 0, checkpoint_every=run.checkpoint_every)
    folder = run.out or Path("runs") / f"{name}-{recipe.arch}-seed{recipe.seed}"
    cache = open_data(run.data)
    data, validation = step_batches(recipe, cache)
    place = views_on(run.views_on, recipe.augment, device)
    engine = Engine(build(recipe, len(cache.classes)), recipe, data, folder, validation, device, place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"--out {folder} is no folder and cannot be made one ({error.strerror})") from error
    begin_or_resume(engine, run.resume)
    if engine.step == recipe.steps and (folder / "summary.json").is_file():
        _say(f"{folder}: finished earlier, nothing was computed")
        return folder  # its record says what it was made with, and is not written over
    if not rank():
        with written_or_told(folder / "recipe.json"):
            write_json(folder / "recipe.json", describe_recipe(recipe, name))
            write_json(folder / "corpus.json", describe_corpus(cache, data))
            write_json(folder / "environment.json", environment() | {"views_on": place})
    if recipe.precision == "bf16" and emulates_bf16(device):
        _say("warning: this processor emulates bf16, many times slower than fp32: --precision auto computes in fp32")
    begun = time.perf_counter()
    engine.run(run.workers, run.checkpoint_every, progress, run.mirror)
    if not rank():
        _summarize(engine, command, time.perf_counter() - begun)
    _say(f"done: {folder}")
    return folder


def _say(line: str) -> None:
    if not rank():
        print(line)  # noqa: T201


def begin_or_resume(engine: Engine, resume: Literal["auto", "never"] | Path = "auto") -> None:
    """Let an engine go on from a checkpoint, see `Run.resume`, or forget what an earlier run left in its folder."""
    if isinstance(resume, Path):
        engine.resume(resume)
        engine.save()  # it is now what "auto" continues from
    elif resume == "auto" and engine.checkpoints.exist():
        engine.resume()
    elif resume == "auto" and engine.checkpoints.best.exists():
        raise TrainingError(
            f"{engine.checkpoints.best} is there, but no checkpoint to go on from: --resume {engine.checkpoints.best} "
            "goes on from it, --resume never removes it and starts again"
        )
    elif not rank():
        engine.checkpoints.forget()
        (engine.folder / "metrics.jsonl").unlink(missing_ok=True)


def _summarize(engine: Engine, command: str, seconds: float) -> None:
    """Draw the curves and write summary.json.

    Raises:
        TrainingError: if there is no room for them.
    """
    records = read_journal(engine.folder)
    with written_or_told(engine.folder / "summary.json"):
        _write_summary(engine, records, command, seconds)


def _write_summary(engine: Engine, records: list[dict[str, Any]], command: str, seconds: float) -> None:
    draw_loss(records, engine.folder / "loss.png")
    draw_rankme(records, engine.folder / "rankme.png")
    batch = engine.data.whole(engine.data.members)
    last = next(record for record in reversed(records) if "rankme" in record)
    write_json(
        engine.folder / "summary.json",
        {
            "command": command,
            "steps": engine.step,
            "batch": batch,
            "views": engine.step * batch * 2,
            "loss": float(np.mean([record["loss"] for record in records[-AVERAGED:]])),
            "rankme": last["rankme"],
            "spread": last["spread"],
            "best_validation": min((r["validation"] for r in records if "validation" in r), default=None),
            "seconds_of_last_sitting": round(seconds, 1),
            "environment": environment(),
        },
    )


def main() -> None:
    """The command line; a user's error is a line and exit code 2."""
    if sys.argv[1:] == ["--list"]:
        for name, (about, _) in RECIPES.items():
            print(f"{name:16s} {about}")  # noqa: T201
        return
    runs = {name: (about, Run(recipe=recipe, data=tyro.MISSING)) for name, (about, recipe) in RECIPES.items()}
    if not torch.cuda.is_available():
        keep_pages()
    run: Run = tyro.extras.overridable_config_cli(runs, prog="python -m training.pretrain")
    try:
        with joined():
            _carry_out(run, sys.argv[1])
    except (CorpusError, SplitError, TrainingError, LookaheadError, OSError) as error:
        process = f" in process {rank()} of {world_size()}" if world_size() > 1 else ""
        print(f"error{process}: {line_of(error)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error


def _carry_out(run: Run, name: str) -> None:
    if run.dry_run:
        refuse_impossible(run.recipe, workers=run.workers or 0, checkpoint_every=run.checkpoint_every)
        cache = open_data(run.data)
        train, held, meta = divide(run.recipe, cache)
        print(json.dumps(asdict(run.recipe), indent=1))  # noqa: T201
        held_out = f"{len(held)} to validate on" + ", too few for a loss" * (len(held) == 1)
        parts = f"{plural(len(train), 'clip')} to train on, {held_out}, {len(meta)} for a meta loss"
        print(parts)  # noqa: T201
        return
    pretrain(run, name, shlex.join(["python", "-m", "training.pretrain", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
