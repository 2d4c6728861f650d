"""Pretrain a backbone: python -m training.pretrain RECIPE --data CACHE_OR_MANIFEST [--out FOLDER] [--any.field value].

    python -m training.pretrain --list
    python -m training.pretrain uscl --arch resnet18 --data cache/lung
    python -m training.pretrain uscl --data manifest.csv --augment.size 128 --steps 2000

The run folder holds recipe.json, metrics.jsonl, checkpoint.pt, loss.png and summary.json. Stop it with Ctrl-C or
SIGTERM, or kill it: the same command continues from the last checkpoint.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import timm
import torch
import tyro

from training.data.corpus import CorpusError, read_manifest
from training.data.prepare import Cache, open_cache, prepare
from training.data.sampling import MetaPairs, StepBatches
from training.engine import Engine, TrainingError, seed_everything
from training.lookahead import LookaheadError
from training.methods.base import Method
from training.recipes import RECIPES, Recipe
from usbackbones.files import atomic_write
from usbackbones.splits import holdout


@dataclass(frozen=True)
class Run:
    """A recipe on a corpus.

    Attributes:
        recipe: what to do.
        data: a folder made by training.data.prepare, or a manifest CSV, which is then prepared beside itself.
        out: the run folder; by default runs/<recipe>-<arch>-seed<seed>.
        workers: loader processes; 0 is fastest on a CPU.
        checkpoint_every: steps between checkpoints.
        fresh: begin anew even if the run folder holds a checkpoint.
        dry_run: print the recipe and what it would read, and stop.
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    data: Path
    out: Path | None = None
    workers: int = 0
    checkpoint_every: int = 100
    fresh: bool = False
    dry_run: bool = False


def open_data(data: Path) -> Cache:
    """Open a prepared folder, or prepare a manifest into a folder named after it and its content."""
    if data.is_dir():
        return open_cache(data)
    rows = read_manifest(data)
    folder = data.with_name(f"{data.stem}-cache-{hashlib.sha256(data.read_bytes()).hexdigest()[:8]}")
    return open_cache(folder) if (folder / "index.json").is_file() else prepare(rows, folder)


def build(recipe: Recipe, classes: int) -> Method:
    """The seeded network of a recipe, on one gray channel."""
    seed_everything(recipe.seed)
    backbone = timm.create_model(recipe.arch, num_classes=0, in_chans=1, **recipe.model_args())
    return recipe.method.build(backbone, classes)


def divide(recipe: Recipe, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips to train on, to validate on, and for the meta loss, as indices; groups are never divided."""

    def keep_out(members: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        if not share:
            return members, members[:0]
        rows = [cache.clips[index].row for index in members]
        _, held = holdout([row.group for row in rows], [row.label for row in rows], share, recipe.seed)
        out = np.array([row.group in held for row in rows])
        return members[~out], members[out]

    train, held = keep_out(np.arange(len(cache.clips)), recipe.validation)
    train, meta = keep_out(train, recipe.method.meta_share if isinstance(recipe.method, MetaPairs) else 0)
    return train, held, meta


def step_batches(recipe: Recipe, cache: Cache) -> tuple[StepBatches, StepBatches | None]:
    """The training batches, and the fixed validation batches where the recipe keeps some groups out."""
    train, held, meta = divide(recipe, cache)
    if min(len(train), recipe.batch) < 2:
        raise CorpusError(f"{len(train)} clips to train on: a contrastive loss needs at least 2 in a batch")
    if isinstance(recipe.method, MetaPairs) and recipe.method.meta_share and len(meta) < 2:
        raise CorpusError(
            f"{len(meta)} clips for the meta loss, it needs at least 2: raise --method.meta-share "
            f"(now {recipe.method.meta_share}), give more groups, or set it to 0 to do without"
        )

    def dataset(members: np.ndarray, meta: np.ndarray, steps: int, frozen: bool) -> StepBatches:
        return StepBatches(
            cache,
            members,
            recipe.method,
            recipe.augment,
            batch=recipe.batch,
            seed=recipe.seed,
            mean=recipe.mean,
            std=recipe.std,
            steps=steps,
            frozen=frozen,
            meta=meta,
        )

    validation = dataset(held, meta[:0], -(-len(held) // recipe.batch), True) if len(held) > 1 else None
    return dataset(train, meta, recipe.steps, False), validation


def pretrain(run: Run, name: str, command: str = "", progress: bool = True) -> Path:
    """Carry a run out, from the beginning or from its last checkpoint.

    Args:
        run: what to do.
        name: of the recipe it was derived from.
        command: the command line, for the record.
        progress: show a progress bar.

    Returns:
        The run folder.
    """
    recipe = run.recipe
    folder = run.out or Path("runs") / f"{name}-{recipe.arch}-seed{recipe.seed}"
    cache = open_data(run.data)
    data, validation = step_batches(recipe, cache)
    engine = Engine(build(recipe, len(cache.classes)), recipe, data, folder, validation)
    folder.mkdir(parents=True, exist_ok=True)
    if engine.checkpoint.exists() and not run.fresh:
        engine.resume()
    else:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
    _write_json(folder / "recipe.json", describe_recipe(recipe, name))
    _write_json(folder / "corpus.json", describe_corpus(cache, data))
    begun = time.perf_counter()
    engine.run(run.workers, run.checkpoint_every, progress)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    _draw_loss(records, folder / "loss.png")
    _write_json(
        folder / "summary.json",
        {
            "command": command,
            "steps": engine.step,
            "batch": min(data.batch, len(data.members)),
            "views": engine.step * min(data.batch, len(data.members)) * 2,
            "loss": float(np.mean([record["loss"] for record in records[-50:]])),
            "seconds_of_last_sitting": round(time.perf_counter() - begun, 1),
            "environment": environment(),
        },
    )
    return folder


def describe_recipe(recipe: Recipe, name: str) -> dict[str, Any]:
    """A recipe as plain data, with what release needs to build the backbone again and to cite the method."""
    method = {"name": recipe.method.name, "paper": recipe.method.paper._asdict(), **asdict(recipe.method)}
    return {"recipe": name, "model_args": recipe.model_args(), **asdict(recipe), "method": method}


def describe_corpus(cache: Cache, data: StepBatches) -> dict[str, Any]:
    """Ids, licences and hashes of what a run sees, meta clips included; no image and no path."""
    seen = [cache.clips[index] for index in (*data.members, *data.meta)]
    rows = [clip.row for clip in seen]
    return {
        "frames_sha256": cache.sha256,
        "clips": sorted(row.clip for row in rows),
        "groups": sorted({row.group for row in rows}),
        "sources": sorted({row.source for row in rows}),
        "organs": sorted({row.organ for row in rows} - {""}),
        "classes": cache.classes,
        "licences": sorted({row.licence for row in rows}),
        "frames": int(sum(clip.count for clip in seen)),
    }


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": git.stdout.strip() or None,
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with atomic_write(file, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def _draw_loss(records: list[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps, loss = [r["step"] for r in records], np.array([r["loss"] for r in records])
    axes.plot(steps, loss, color="#b8cbe0", linewidth=0.6, label="each step")
    width = max(1, len(loss) // 50)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    axes.plot(steps[width - 1 :], smooth, color="#1f4e8c", label=f"mean of {width} steps")
    held = [(r["step"], r["validation"]) for r in records if "validation" in r]
    if held:
        axes.plot(*zip(*held, strict=True), color="#c8553d", marker=".", label="validation, fixed views")
    axes.set(xlabel="optimiser step", ylabel="loss")
    axes.legend(frameon=False)
    with atomic_write(file) as stream:
        figure.savefig(stream, format="png", dpi=130)
    plt.close(figure)


def main() -> None:
    """The command line; a user's error is a line and exit code 2."""
    if sys.argv[1:] == ["--list"]:
        for name, (about, _) in RECIPES.items():
            print(f"{name:16s} {about}")  # noqa: T201
        return
    runs = {name: (about, Run(recipe=recipe, data=tyro.MISSING)) for name, (about, recipe) in RECIPES.items()}
    run: Run = tyro.extras.overridable_config_cli(runs, prog="python -m training.pretrain")
    try:
        name = sys.argv[1]
        if run.dry_run:
            cache = open_data(run.data)
            train, held, meta = divide(run.recipe, cache)
            print(json.dumps(asdict(run.recipe), indent=1))  # noqa: T201
            print(f"{len(train)} clips to train on, {len(held)} to validate on, {len(meta)} for a meta loss")  # noqa: T201
            return
        command = shlex.join(["python", "-m", "training.pretrain", *sys.argv[1:]])
        print(f"done: {pretrain(run, name, command)}")  # noqa: T201
    except (CorpusError, TrainingError, LookaheadError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
