"""Share among commands how results are printed, how a command refuses, how it shows that it is still at work."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from usbackbones._errors import Refused

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

AsJson = Annotated[bool, arg(name="json")]
Out = Annotated[Path, arg(aliases=["-o"])]
OptionalOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]
Count = Annotated[int | None, arg(metavar="N")]
Sheet = Annotated[Path | None, arg(metavar="PNG")]
Model = Annotated[str | None, arg(metavar="NAME")]


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


def network(name: str | None, in_chans: int | None = None, size: int | None = None) -> "nn.Module":
    """The headless model of a name, see `usbackbones.build_backbone`, on the GPU where there is one."""
    import torch

    from usbackbones.hub.backbone import build_backbone

    return build_backbone(name, in_chans, size=size).to("cuda" if torch.cuda.is_available() else "cpu")


class Progress:
    """A line on the terminal that says how far a job is, once it has taken a second."""

    def __init__(self, clips: int) -> None:
        self.clips, self.done, self.seen = clips, 0, 0
        self.warnings = 0
        self.start = self.shown = time.monotonic()

    def frames(
        self, timed: "Iterator[tuple[np.ndarray, float | None]]", seconds: list[float]
    ) -> Iterator["np.ndarray"]:
        """The frames of a clip, counted while they pass; their times, nan where unknown, go into `seconds`."""
        for frame, when in timed:
            seconds.append(float("nan") if when is None else when)
            yield frame
            self.seen += 1
            now = time.monotonic()
            if sys.stderr.isatty() and now - self.start > 1 and now - self.shown > 0.2:
                self.shown = now
                self.show(now - self.start)

    def show(self, seconds: float) -> None:
        """Draw the line, `seconds` after the beginning."""
        filled = 24 * self.done // self.clips
        left = f", {seconds / self.done * (self.clips - self.done):.0f} s left" if self.done else ""
        speed = f"{self.seen} frames, {self.seen / seconds:.0f}/s"
        sys.stderr.write(f"\r[{'#' * filled:24}] {self.done}/{self.clips} clips, {speed}{left}\x1b[K")
        sys.stderr.flush()

    def warn(self, fault: str) -> None:
        """Say what is wrong with a clip, on a line of its own."""
        self.warnings += 1
        self.clear()
        tell(f"warning: {fault}")

    def clear(self) -> None:
        """Take the line away."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
