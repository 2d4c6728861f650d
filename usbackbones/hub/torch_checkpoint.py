"""Torch checkpoints opened as tensors and plain values alone, with one error for all that can be wrong with one."""

import argparse
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from usbackbones._errors import Refused


class CheckpointError(Refused):
    """A checkpoint that cannot be read; one line that names the file."""


def load_checkpoint(file: Path, device: torch.device | str = "cpu") -> Any:
    """The content of a file that `torch.save` wrote; a pickle that would run code is refused.

    Raises:
        CheckpointError: if the file is damaged, is something else, or holds more than data.
    """
    try:
        # Training scripts put their parsed arguments beside the tensors; a Namespace is data and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors, or is damaged: it is not opened, since that could run code"
        ) from error
    # All that the unpickler raises on damaged files; they have no common base.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read as a checkpoint ({type(error).__name__})") from error


def state_to_go_on_from(file: Path, settings: str, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The state of a run that was broken off, or None where there is none.

    Args:
        file: where the run keeps its state.
        settings: of the run as it is now; the state has its own under "settings".
        device: where its tensors go.

    Raises:
        CheckpointError: if it is damaged, or of another run.
    """
    if not file.is_file():
        return None
    try:
        state: dict[str, Any] = load_checkpoint(file, device)
    except CheckpointError as error:
        raise CheckpointError(f"{error}: delete it to start again") from error
    if state["settings"] != settings:
        raise CheckpointError(f"{file} is of other data or settings: choose another -o, or delete it to start again")
    return state


def sum_of(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of the names, shapes and values of tensors, wherever they lie in memory."""
    return hashlib.sha256(save({name: value.detach().contiguous() for name, value in tensors.items()})).hexdigest()
