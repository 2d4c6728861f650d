"""Share among commands how results are printed and how a command refuses."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbackbones._errors import Refused
from usbackbones._files import finite
from usbackbones._words import lasted, with_interval

if TYPE_CHECKING:
    from torch import nn


WIDTH = 100
"""Columns of a terminal at which a table is not wrapped."""


class CommandError(Refused):
    """A command that cannot do what it was asked to; shown as one line."""


def say(line: str) -> None:
    """A result, to stdout."""
    sys.stdout.write(f"{line}\n")


def tell(line: str) -> None:
    """All else, to stderr."""
    sys.stderr.write(f"usbackbones: {line}\n")


def noted(line: str) -> None:
    """A note about the data, to stderr."""
    tell(f"note: {line}")


def say_json(told: Mapping[str, Any]) -> None:
    """The result of a command with --json: one object, paths as text."""
    say(json.dumps(finite(told), indent=2, default=str))


def in_columns(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The rows of a table as lines, each cell as wide as the widest of its column.

    Where a line would be longer than `width`, if one is given, the first cell of a row stands in a line above the rest.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width and sum(widths) + 2 * (len(widths) - 1) > width:
        rest = in_columns([["", *row[1:]] for row in rows])
        return [line for row, numbers in zip(rows, rest, strict=True) for line in (row[0], f"  {numbers}")]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def listed(metrics: Mapping[str, Any], told: Callable[[Any], str] = with_interval) -> str:
    """Metrics in a line, each by its name and as `told` has it."""
    return ", ".join(f"{name.replace('_', ' ')} {told(numbers)}" for name, numbers in metrics.items())


def tell_run(done: Any, folder: Path, seconds: float) -> None:
    """What a person must hear besides the result: the time, or that it was done before; what was skipped and joined."""
    if done.was_finished:
        tell(f"{folder} holds this very run, finished: nothing was done")
    else:
        tell(f"took {lasted(seconds)}")
    for fault in getattr(done, "skipped", ()):
        tell(f"skipped: {fault}")
    if done.joined:
        noted(done.joined)


def say_counts(done: Any) -> None:
    """The items and groups of each part or class."""
    from usbackbones.data.patients import counted

    for label, count in done.counts.items():
        say(f"{label}: {counted(count, done.unit)}")


def network(name: str | None, in_chans: int | None = None, size: int | None = None) -> "nn.Module":
    """The headless model of a name, see `usbackbones.build_backbone`, on the GPU where there is one."""
    import torch

    from usbackbones.hub.backbone import build_backbone

    return build_backbone(name, in_chans, size=size).to("cuda" if torch.cuda.is_available() else "cpu")
