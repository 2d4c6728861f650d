"""What every command shares: where its words go, how it refuses, how it shows that it is still at work."""

import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

AsJson = Annotated[bool, arg(name="json")]
Out = Annotated[Path, arg(aliases=["-o"])]
Model = Annotated[str | None, arg(metavar="ARCH.TAG")]
# All that timm and torch raise on damaged folders besides the error of safetensors; they have no common base.
_DAMAGE = (RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


class CommandError(Exception):
    """A command that cannot do what it was asked to; shown as one line."""


def say(line: str) -> None:
    """A result, to stdout."""
    sys.stdout.write(f"{line}\n")


def tell(line: str) -> None:
    """All else, to stderr."""
    sys.stderr.write(f"usbackbones: {line}\n")


def weight_name(model: str | None) -> str:
    """The full name of the weight asked for, or of the default one."""
    from usbackbones.hub import registry

    name = model.removeprefix(registry.OWNER) if model else registry.default_name()
    if name is None:
        raise CommandError("this version of usbackbones has no weights to work with; install a newer one")
    return registry.weight(name).name


def model_name(model: str | None, untrained: bool = False) -> str:
    """What to ask `timm.create_model` for: one of our weights by its short name, a timm name, a local folder.

    Args:
        model: as it was given; None is the default weight.
        untrained: let `random:ARCH` pass too, which timm does not know.

    Raises:
        CommandError: if there is no such model, or timm cannot load the folder.
    """
    import timm

    from usbackbones.hub import registry
    from usbackbones.hub.random_weights import RANDOM

    if model and model.startswith("local-dir:"):
        _try(model)
        return model
    if untrained and model and model.startswith(RANDOM):
        if not timm.is_model(model.removeprefix(RANDOM)):
            raise CommandError(f"{model}: timm has no such architecture; try {RANDOM}resnet18")
        return model
    if model is None or model.removeprefix(registry.OWNER) in registry.list_weights():
        return f"{registry.OWNER}{weight_name(model)}"
    if timm.is_model(model.split(".")[0].removeprefix("timm/")):
        return model
    return f"{registry.OWNER}{weight_name(model)}"  # refuses it with what there is


def _try(folder: str) -> None:
    """Load a local folder, so that whatever is wrong with it is told in a line before a command begins."""
    import timm
    from safetensors import SafetensorError

    if not (Path(folder.removeprefix("local-dir:")) / "config.json").is_file():
        raise CommandError(f"{folder}: no timm folder there, it lacks a config.json")
    try:
        timm.create_model(folder, pretrained=True)
    except (SafetensorError, *_DAMAGE) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CommandError(f"{folder} cannot be loaded ({reason}); write the folder again") from error


def network(name: str) -> "nn.Module":
    """The headless model of a name that `model_name` returned, on the GPU where there is one."""
    import timm
    import torch

    from usbackbones.hub import registry
    from usbackbones.hub.random_weights import RANDOM
    from usbackbones.segmentation.feature_maps import backbone

    if name.startswith(RANDOM):
        model = backbone(name, 3)
    else:
        # The cfg of ours follows the channels; that of others says 3 whatever is built.
        channels: dict[str, Any] = {"in_chans": 1} if name.startswith(registry.OWNER) else {}
        model = timm.create_model(name, pretrained=True, num_classes=0, **channels)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


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
