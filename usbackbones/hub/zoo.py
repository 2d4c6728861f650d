"""A zoo file: JSON that names weights, pins their bytes and says what input they want. Plain data, checked in full.

{"organisation": "...", "default": "<arch>.<tag>" or null, "weights": {"<arch>.<tag>": entry, ...},
 "successors": {"<arch>.<tag> that was removed": "<arch>.<tag> that takes its place", ...}}
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from usbackbones._errors import Refused

FILE = "model.safetensors"
_NAME = re.compile(r"(?P<arch>[a-z0-9_]+)\.(?P<tag>[A-Za-z0-9_-]+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# timm's names; "random" is left out because a released weight has one input.
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_CROP_MODES = ("squash", "center", "border")


class ZooError(Refused):
    """A zoo file that cannot be used. The message names the entry and the field."""


@dataclass(frozen=True)
class Input:
    """What a network was trained on: square gray images, one mean and std for every channel.

    The defaults are those of a network without weights. `size` is in pixels, `mean` and `std` are in the 0..1 range
    of pixel values, the other fields are timm's.

    Raises:
        ZooError: naming a field that cannot be right.
    """

    size: int = 224
    mean: float = 0.5
    std: float = 0.25
    interpolation: str = "bilinear"
    crop_mode: str = "squash"
    crop_pct: float = 1.0

    def __post_init__(self) -> None:
        numbers = {"mean": (0, 1), "std": (1e-6, 1e3), "crop_pct": (0.01, 1)}
        for name, (low, high) in numbers.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ZooError(f"input: {name} is {value!r}, not a number from {low:g} to {high:g}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 16 <= self.size <= 4096:
            raise ZooError(f"input: size is {self.size!r}, not a whole number of pixels from 16 to 4096")
        for name, known in (("interpolation", _INTERPOLATIONS), ("crop_mode", _CROP_MODES)):
            if getattr(self, name) not in known:
                raise ZooError(f"input: {name} is {getattr(self, name)!r}, not one of {', '.join(known)}")


@dataclass(frozen=True)
class Weight:
    """One released weight. `entry` is its whole entry in the zoo file, `folder` the folder of that file."""

    name: str
    arch: str
    tag: str
    sha256: str
    hub_id: str
    revision: str | None
    licence: str
    model_args: Mapping[str, Any]
    input: Input
    entry: Mapping[str, Any] = field(repr=False)
    folder: Path | None = None

    @property
    def pinned_hub_id(self) -> str:
        """The Hub repository in timm's notation, `<id>@<commit>` once it is published."""
        return f"{self.hub_id}@{self.revision}" if self.revision else self.hub_id


class Zoo(NamedTuple):
    """A zoo as read: its weights by name, the name of its default, and what took the place of removed names."""

    weights: dict[str, Weight]
    default: str | None
    successors: dict[str, str]


def read_zoo(source: Mapping[str, Any] | str | Path) -> Zoo:
    """Read and check a zoo.

    Args:
        source: its content, or the path of a zoo file, whose folder then goes into every weight.

    Raises:
        ZooError: if it is no zoo, or an entry is incomplete or wrong.
        OSError: if there is a path and no readable file at it.
    """
    folder, content = None, source
    if isinstance(source, str | Path):
        folder = Path(source).resolve().parent
        try:
            content = json.loads(Path(source).read_bytes())
        # Bytes that are no text, text that is no JSON, and JSON that is nested without end.
        except (ValueError, RecursionError) as error:
            raise ZooError(f"{source} is not a zoo, which is JSON with 'weights' and 'default': {error}") from error
    told = source if folder else "the mapping"
    if not isinstance(content, Mapping) or not {"weights", "default"} <= content.keys():
        raise ZooError(f"{told} is not a zoo, which is JSON with 'weights' and 'default'")
    entries, default = content["weights"], content["default"]
    if not isinstance(entries, Mapping):
        raise ZooError(f"{told} is not a zoo: 'weights' is no mapping of names to entries")
    weights = {name: parse_entry(name, entry, folder) for name, entry in entries.items()}
    if default is not None and (not isinstance(default, str) or default not in weights):
        raise ZooError(f"the default is {default!r}, which is not among the weights: {', '.join(weights) or 'none'}")
    return Zoo(weights, default, _successors(content.get("successors", {}), weights))


def _successors(content: object, weights: Mapping[str, Weight]) -> dict[str, str]:
    """The names that took the place of removed ones; each has to lead to a weight that is there."""
    if not isinstance(content, Mapping):
        raise ZooError(f"successors is {content!r}, not a mapping of removed names to names")
    for name, successor in content.items():
        if name in weights or successor not in weights:
            raise ZooError(f"successors: {name!r} must be a removed name, and {successor!r} one of the weights")
    return dict(content)


def parse_entry(name: str, entry: Mapping[str, Any], folder: Path | None = None) -> Weight:
    """Check one entry of a zoo.

    Raises:
        ZooError: naming the entry and the field at fault.
    """
    matched = _NAME.fullmatch(name) if isinstance(name, str) else None
    if matched is None:
        raise ZooError(f"{name!r} is not a name: <arch>.<tag>, the tag in letters, digits, _ and -")
    try:
        weight = Weight(
            name=name,
            sha256=entry["sha256"],
            hub_id=entry["hub_id"],
            revision=entry["revision"],
            licence=entry["licences"]["weights"],
            model_args=entry["model_args"],
            input=Input(**entry["input"]),
            entry=entry,
            folder=folder,
            **matched.groupdict(),
        )
    except KeyError as error:
        raise ZooError(f"{name}: the entry has no {error}") from error
    except TypeError as error:
        raise ZooError(f"{name}: a part of the entry has the wrong type, perhaps input: {error}") from error
    except ZooError as error:
        raise ZooError(f"{name}: {error}") from error
    _check_fields(weight)
    return weight


def _check_fields(weight: Weight) -> None:
    """Refuse what would be used as a path, an address or an argument and is none."""
    if not _is_like(weight.sha256, r"[0-9a-f]{64}"):
        raise ZooError(f"{weight.name}: sha256 is {weight.sha256!r}, not 64 hex digits")
    if weight.revision is not None and not _is_like(weight.revision, r"[0-9a-f]{40}"):
        raise ZooError(f"{weight.name}: revision is {weight.revision!r}, neither null nor a 40-hex commit")
    faulty = not _is_like(weight.hub_id, _HUB_ID.pattern) or ".." in weight.hub_id or "--" in weight.hub_id
    if faulty or weight.hub_id.endswith((".git", ".", "-")):
        raise ZooError(f"{weight.name}: hub_id is {weight.hub_id!r}, not <organisation>/<name>")
    if not isinstance(weight.licence, str) or not weight.licence.strip():
        raise ZooError(f"{weight.name}: the licence of the weights is {weight.licence!r}, not a name")
    if not isinstance(weight.model_args, Mapping) or not all(map(_is_plain, weight.model_args.values())):
        raise ZooError(f"{weight.name}: model_args is {weight.model_args!r}, not a mapping of names to plain values")


def _is_like(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _is_plain(value: object) -> bool:
    """Whether an argument is a finite number, a word, a flag, null, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
