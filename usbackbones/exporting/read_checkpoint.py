"""Read a checkpoint of others as tensors alone, and lay its nested containers out flat."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from usbackbones._errors import Refused
from usbackbones.hub.torch_checkpoint import CheckpointError, load_checkpoint

_SHOWN = 8


class ConvertError(Refused):
    """A checkpoint that is not what it was said to be; the message lists the keys at fault."""


def read_checkpoint(file: Path) -> Any:
    """The file's content, tensors and plain containers only; a pickle that would run code is refused.

    Raises:
        ConvertError: if it is no file, damaged, or holds more than data.
    """
    if not file.is_file():
        raise ConvertError(f"{file} is not a file: give the authors' checkpoint")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ConvertError(f"{file} is no safetensors file ({error})") from error
    try:
        return load_checkpoint(file)
    except CheckpointError as error:
        raise ConvertError(f"{error}{_more_than_tensors(file)}") from error


def _more_than_tensors(file: Path) -> str:
    """What besides data a checkpoint holds, read from its pickle without running it, and what to do about it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    # A damaged file, or one of another form, of which the error before this one tells.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, pickle.UnpicklingError):
        return ""
    if not names:
        return ""
    return f" ({shown(sorted(names))}); save its state dict alone, torch.save(model.state_dict(), FILE), where it runs"


def state_dicts(content: Any, path: str = "") -> dict[str, dict[str, Tensor]]:
    """Every mapping below `content` that holds tensors, by its dotted place; that of the content itself is ""."""
    if not isinstance(content, Mapping):
        return {}
    own = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    found = {path: own} if own else {}
    for key, value in content.items():
        found |= state_dicts(value, f"{path}.{key}" if path else str(key))
    return found


def contents(content: Any) -> str:
    """What a checkpoint without a network holds, in a few words."""
    held = f" {shown(map(str, content))}" if isinstance(content, Mapping) and content else ""
    return f"a {type(content).__name__}{held}"


def shown(names: Iterable[str]) -> str:
    """Some names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
