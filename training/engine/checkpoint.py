"""A run's state on disk: whole or not at all, the last three and the best one.

    checkpoint.pt      the newest
    checkpoint-1.pt    the one before
    checkpoint-2.pt    the one before that
    best.pt            the one with the lowest validation loss, where groups are kept out for validation

A file is written under another name, synced and moved, so none of these names ever stands for half a state. When the
newest cannot be read all the same (a disk's fault, a copy that broke off), the one before it is taken.
"""

import logging
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from training.errors import TrainingError
from usbackbones._files import atomic_write

KEPT = 3

logger = logging.getLogger(__name__)


@contextmanager
def written_or_told(what: Path) -> Iterator[None]:
    """Turn an error of writing within the block into one that says what is left and what to do.

    Raises:
        TrainingError: if something could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__ or error
        free = shutil.disk_usage(what.parent).free / 1e6
        raise TrainingError(
            f"{what} could not be written ({cause}); {free:.0f} MB are free there. What was written before is as it "
            "was: make room, and give the same command again"
        ) from error


class Checkpoints:
    """The checkpoints of a run folder.

    Attributes:
        files: the last ones, the newest first.
        best: the best one.
    """

    def __init__(self, folder: Path) -> None:
        self.files = [folder / f"checkpoint{f'-{age}' if age else ''}.pt" for age in range(KEPT)]
        self.best = folder / "best.pt"

    def write(self, state: dict[str, Any], best: bool) -> None:
        """Write a state as the newest, and, if so, as the best too.

        Raises:
            TrainingError: if there is no room; the earlier ones are then as they were.
        """
        newest = self.files[0]
        for half in newest.parent.glob(f".{newest.name}.*.part"):
            half.unlink()  # left by a process that was killed while it wrote
        with written_or_told(newest), atomic_write(newest) as stream:
            torch.save(state, stream)
            stream.flush()  # before an earlier one gives way to it
            for older, younger in reversed(list(zip(self.files[1:], self.files, strict=False))):
                if younger.exists():
                    _second_name(younger, older)
        if best:
            with written_or_told(self.best):
                _second_name(newest, self.best)

    def exist(self) -> bool:
        """Whether there is any to continue from."""
        return any(file.exists() for file in self.files)

    def readable(self) -> Path:
        """The newest that is whole; says so when it is not the newest of all.

        Raises:
            TrainingError: if none is.
        """
        faults = {}
        for file in filter(Path.exists, self.files):
            if fault := fault_of(file):
                faults[file] = fault
                continue
            for broken, reason in faults.items():
                logger.warning("%s cannot be read (%s): going on from %s", broken, reason, file.name)
            return file
        told = "; ".join(f"{file} cannot be read ({fault})" for file, fault in faults.items())
        raise TrainingError(f"{told or f'no checkpoint in {self.best.parent}'}. Begin again with --resume never")

    def forget(self) -> None:
        """Remove all, to start again."""
        for file in (*self.files, self.best):
            file.unlink(missing_ok=True)


def fault_of(file: Path) -> str | None:
    """What is wrong with a checkpoint's bytes, or None; every part of the file is held against its checksum."""
    try:
        with zipfile.ZipFile(file) as parts:
            broken = parts.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f"{type(error).__name__}: {error}"
    return f"its part {broken} is damaged" if broken else None


def load(file: Path, device: torch.device) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises:
        TrainingError: if it cannot be read.
    """
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{file} cannot be read ({type(error).__name__}): is it a checkpoint of a run?") from error


def refuse_another(file: Path, state: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse a state that another run made; it must agree with `ours` in the "recipe" and other things by name.

    Raises:
        TrainingError: naming what differs.
    """
    theirs = {key: state.get(key) for key in ours}
    if theirs == ours:
        return
    recipe, other = ours["recipe"], theirs["recipe"] or {}
    changed = sorted(key for key in recipe.keys() | other.keys() if recipe.get(key) != other.get(key))
    if changed:
        raise TrainingError(
            f"{file} was made by another recipe; they differ in {', '.join(changed)}. Choose another run folder "
            "(--out), or repeat the recipe of this one"
        )
    told = ", ".join(f"{key} {ours[key]} here and {theirs[key]} there" for key in ours if ours[key] != theirs[key])
    raise TrainingError(f"{file} was made by another run of this recipe ({told}). Choose another run folder (--out)")


def _second_name(file: Path, name: Path) -> None:
    """Let `name` stand for the same bytes, at once or not at all."""
    temporary = name.with_name(f".{name.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(file)
    except OSError:  # a file system without links
        shutil.copyfile(file, temporary)
    temporary.replace(name)
