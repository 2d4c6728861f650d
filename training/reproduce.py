"""Train a released weight again from its record in model_cards/, and report how near it comes.

    python -m training.reproduce resnet18.hico_open3 --data cache/open3 --check  its first steps: the losses, one by one
    python -m training.reproduce resnet18.hico_open3 --data cache/open3          the whole run: the weights, bit by bit

On the same type of CPU with as many threads and the same versions (`environment` in record.json) the bits are the same;
on the same type of GPU they are if the weight was trained with --deterministic, which is then set here too.
Elsewhere sums are added up in another order: the losses of the first steps then agree within a percent, and the weights
do not; for those the leaderboard is run again, and each number should lie in the interval that the card states. Where a
processor would emulate the bf16 of a release, which takes many times longer, fp32 is computed and compared likewise.
"""

import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from safetensors.torch import save

from training.data.cache import Cache
from training.data.errors import CorpusError, line_of
from training.data.records import CARDS, ZOO, read_json, read_record
from training.engine.dataloaders import open_data
from training.engine.process import same_bits
from training.engine.run_folder import environment, rows_sha256
from training.engine.trial_run import losses_of
from training.errors import TrainingError
from training.pretrain import Run, pretrain
from training.recipes import Recipe, recorded
from usbackbones._files import atomic_write
from usbackbones._words import percent, plural
from usbackbones.exporting.pack import published_tensors
from usbackbones.features.precision import emulates_bf16
from usbackbones.hub.pretraining_run import backbone_of_run

TOLERANCE = 0.01
"""Largest relative difference of a loss in the first steps on another processor or with other versions."""


class DifferentError(TrainingError):
    """What was trained again is not what was released."""


@dataclass(frozen=True)
class Comparison:
    """The losses of the first steps, as released and as made again.

    Attributes:
        released: as recorded with the weight.
        again: as they came out now.
    """

    released: Sequence[float]
    again: Sequence[float]

    @property
    def same(self) -> bool:
        """Whether they agree to the bit."""
        return list(self.released) == list(self.again)

    @property
    def apart(self) -> float:
        """The largest relative difference."""
        # NaN if a loss is: the largest of Python's `max` could be any other
        return float(np.max([abs(a - b) / abs(a) for a, b in zip(self.released, self.again, strict=True)]))


def corpus_of(name: str, entry: Mapping[str, Any], data: Path) -> Cache:
    """The prepared corpus, if it is the one that the weight was made from.

    Raises:
        CorpusError: if its frames are others, or its groups and labels where the entry recorded them.
    """
    cache, wanted = open_data(data), entry["corpus"]
    if cache.sha256 != wanted["frames_sha256"]:
        sources = shlex.join(wanted["sources"])
        clips = {clip.row.clip for clip in cache.clips}
        raise CorpusError(
            f"{data} is not the corpus of {name}: {len({*wanted['clips']} - clips)} of {len(wanted['clips'])} clips "
            f"are missing, {len(clips - {*wanted['clips']})} are others, frames sha256 {cache.sha256[:12]} and not "
            f"{wanted['frames_sha256'][:12]}. Make it with python -m training.data.corpus {sources} --root FOLDER "
            f"-o manifest.csv --tier {entry['tier']}, then python -m training.data.prepare manifest.csv -o {data}"
        )
    rows = rows_sha256(cache)
    if rows != wanted.get("rows_sha256", rows):
        raise CorpusError(
            f"{data} has the frames of {name}, but other groups or labels (sha256 {rows[:12]} and not "
            f"{wanted['rows_sha256'][:12]}): prepare the manifest again that the weight was made from"
        )
    return cache


def check(entry: Mapping[str, Any], recipe: Recipe, cache: Cache) -> Comparison:
    """Make the first steps again, as many as were recorded.

    Raises:
        TrainingError: if none were.
    """
    released = entry["training"].get("trajectory")
    if not released:
        raise TrainingError("no losses of its first steps were recorded with this weight: leave --check out")
    return Comparison(released, losses_of(recipe, cache, len(released)))


def main(
    name: Annotated[str, tyro.conf.Positional],
    data: Path,
    check_only: Annotated[bool, tyro.conf.arg(name="check")] = False,
    out: Path | None = None,
    zoo: Path = ZOO,
    cards: Path = CARDS,
) -> None:
    """Train a released weight again and compare; exit code 1 if it differs, 2 if it could not be trained.

    Args:
        name: <arch>.<tag> of an entry of the zoo.
        data: the corpus, prepared.
        check_only: make only the first steps, and compare their losses.
        out: folder of the run; by default runs/again-NAME. A run that was stopped goes on.
        zoo: the zoo file.
        cards: the folder of model folders, with their records.
    """
    weights = read_json(zoo)["weights"]
    if name not in weights:
        raise CorpusError(f"{name} is not in {zoo.name}; there is: {', '.join(weights)}")
    entry = weights[name] | read_record(name, cards)
    recipe: Recipe = recorded(Recipe, entry["training"]["recipe"])
    cache = corpus_of(name, entry, data)
    then = entry["training"]["environment"]
    threads, deterministic = then["threads"], bool(then.get("deterministic"))
    torch.set_num_threads(threads)
    recorded_rows = "rows_sha256" in entry["corpus"]
    told = "the recorded ones" if recorded_rows else "of the recorded frames; their groups and labels were not recorded"
    print(f"{name}: {plural(len(cache.clips), 'clip')}, {told}; {plural(threads, 'thread')}, as then", flush=True)  # noqa: T201
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    other = differing(then)
    if recipe.precision == "bf16" and emulates_bf16(device):
        recipe, other = replace(recipe, precision="fp32"), [*other, "precision"]
        print("bf16 then, fp32 now: this processor would emulate bf16, many times slower", flush=True)  # noqa: T201
    if check_only:
        with same_bits(device, deterministic):
            _tell(check(entry, recipe, cache), other)
        return
    folder = out or Path("runs") / f"again-{name}"
    run = Run(recipe, data, folder, deterministic=deterministic)
    pretrain(run, entry["training"]["recipe"]["recipe"], shlex.join(["python", *sys.argv]))
    _tell_weights(name, entry, folder, other)


def differing(then: Mapping[str, Any]) -> list[str]:
    """In what of processor, threads and versions this machine is not that of the release; if in nothing, bits agree.

    A GPU gives the same bits only where both were told to (`--deterministic`).
    """
    now = environment()
    other = [key for key in ("cpu", "cuda", "threads", "processes", "torch", "numpy") if now[key] != then.get(key)]
    same_bits_asked = now["cuda"] is None or bool(now["deterministic"] and then.get("deterministic"))
    return other if same_bits_asked else [*other, "deterministic"]


def _tell(found: Comparison, other: Sequence[str]) -> None:
    for step, (then, now) in enumerate(zip(found.released, found.again, strict=True)):
        print(f"step {step:3d}   released {then:.6f}   now {now:.6f}")  # noqa: T201
    if found.same:
        print(f"losses of {plural(len(found.again), 'step')}: the same to the bit")  # noqa: T201
    elif not np.isfinite(found.apart):
        raise DifferentError("a loss is not finite, or was not: this is another training")
    elif not other:
        raise DifferentError(
            f"{percent(found.apart, 2)} apart at most, on the same processor, threads and versions: this is another "
            "training"
        )
    elif found.apart <= TOLERANCE:
        print(  # noqa: T201
            f"not the same bits; {percent(found.apart, 2)} apart at most over {plural(len(found.again), 'step')}. "
            f"Other than at the release: {', '.join(other)}"
        )
    else:
        raise DifferentError(
            f"{percent(found.apart, 2)} apart at most, more than {TOLERANCE:.0%}: this is another training"
        )


def _tell_weights(name: str, entry: Mapping[str, Any], folder: Path, other: Sequence[str]) -> None:
    """Write the weight made again, and compare its bytes with the released ones."""
    backbone, _ = backbone_of_run(folder)
    content = save(published_tensors(backbone), metadata={"format": "pt"})
    with atomic_write(folder / "model.safetensors") as stream:
        stream.write(content)
    if hashlib.sha256(content).hexdigest() == entry["sha256"]:
        print(f"{folder / 'model.safetensors'}: the released file, byte for byte")  # noqa: T201
        return
    again = shlex.join(
        ["python", "-m", "training.benchmark.leaderboard", f"run:{folder}", f"usbackbones/{name}", "--data", "FOLDER"]
    )
    why = f"other than at the release: {', '.join(other)}" if other else "on the same processor, threads and versions"
    raise DifferentError(f"not the released bytes, {why}; compare what it is worth: {again}")


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (CorpusError, TrainingError, OSError) as error:
        print(f"error: {line_of(error)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1 if isinstance(error, DifferentError) else 2) from error
