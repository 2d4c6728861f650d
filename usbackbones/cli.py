"""The command line: usbackbones list | info | embed | demo.

Results go to stdout, all else to stderr. A slip of the user is one line and exit code 2, never a traceback. What a
command needs is imported when it runs, so that help stays quick.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional, arg

from usbackbones import hub, registry
from usbackbones.files import atomic_write

if TYPE_CHECKING:
    import numpy as np

AsJson = Annotated[bool, arg(name="json")]
Out = Annotated[Path, arg(aliases=["-o"])]
Model = Annotated[str | None, arg(metavar="ARCH.TAG")]


class CommandError(Exception):
    """A command that cannot do what it was asked to; shown as one line."""


def list_command(as_json: AsJson = False) -> None:
    """List the published weights: name, licence tier, licence and size.

    Args:
        as_json: print their whole entries as JSON instead.
    """
    weights = [registry.weight(name) for name in registry.list_weights()]
    if as_json:
        _say(json.dumps({weight.name: weight.entry for weight in weights}, indent=2))
        return
    if not weights:
        _say("No weights are published in this version of usbackbones.")
        return
    rows = [("NAME", "ARCH", "TAG", "TIER", "LICENCE", "MB", "")]
    for weight in weights:
        size = f"{weight.entry['bytes'] / 1e6:.1f}"
        mark = "(default)" if weight.name == registry.default_name() else ""
        rows.append((weight.name, weight.arch, weight.tag, weight.entry["tier"], weight.licence, size, mark))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def info_command(name: Positional[str], as_json: AsJson = False) -> None:
    """Tell what is known of one weight.

    Args:
        name: <arch>.<tag> as `usbackbones list` prints it, or <arch> for its default.
        as_json: print its entry as JSON instead.
    """
    weight = registry.weight(name.removeprefix(registry.OWNER))
    if as_json:
        _say(json.dumps(weight.entry, indent=2))
        return
    places = (place.file for place in hub.local_places(weight.name, weight.folder))
    file = next((str(file) for file in places if file.is_file()), "fetched from the Hub when first used")
    _say(f"{registry.OWNER}{weight.name}")
    for line in _outline({**weight.entry, "file": file}):
        _say(f"  {line}")


def embed_command(
    paths: Positional[tuple[Path, ...]],
    out: Out,
    model: Model = None,
    batch: int = 32,
    stride: int = 1,
) -> None:
    """Write the features of the frames of clips to an .npz file.

    It holds `features` float32 [N, D], for each row `frame`, its number in the clip, and `source`, the clip's path,
    and `model`, the weight. A clip that cannot be read is left out and named.

    Args:
        paths: videos, images, and folders of them; a folder of stills is one clip.
        out: the .npz file.
        model: the weight, <arch>.<tag>; the default one if none is named.
        batch: frames held and computed at a time.
        stride: every stride-th frame of a clip.
    """
    if batch < 1 or stride < 1:
        raise CommandError(f"--batch {batch} --stride {stride}: both must be at least 1")
    if out.suffix != ".npz" or out.is_dir():
        raise CommandError(f"{out} is no name for an .npz file; write for example -o features.npz")
    name = _weight_name(model)
    import timm
    import torch

    from usbackbones.clips import ClipError, find_clips
    from usbackbones.probe import embed

    clips: dict[Path, None] = {}  # an ordered set: a clip may be named twice, by itself and by its folder
    faults: list[str] = []
    for path in paths:
        try:
            clips.update(dict.fromkeys(find_clips(path)))
        except ClipError as error:
            faults.append(str(error))
    network = timm.create_model(f"{registry.OWNER}{name}", pretrained=True, num_classes=0, in_chans=1)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    features: dict[Path, np.ndarray] = {}
    progress = _Progress(len(clips))
    for clip in clips:
        try:
            features[clip] = embed(network, progress.frames(clip, stride), batch)
        except ClipError as error:
            faults.append(str(error))
        progress.done += 1
    progress.clear()
    for fault in faults:
        _tell(f"skipped: {fault}")
    if not features:
        asked = ", ".join(map(str, paths)) or "no path was given"
        raise CommandError(f"nothing to embed, {len(faults)} clips skipped, none read: {asked}")
    rows, size = _save_features(out, features, stride, f"{registry.OWNER}{name}")
    _say(f"{out}: features [{rows}, {size}] of {len(features)} clips by {registry.OWNER}{name}")


def _save_features(out: Path, features: "Mapping[Path, np.ndarray]", stride: int, model: str) -> tuple[int, int]:
    """Write the .npz of `embed`, whole or not at all; returns the shape of its features."""
    import numpy as np

    lengths = [len(rows) for rows in features.values()]
    table = np.concatenate(list(features.values()))
    with atomic_write(out) as stream:
        np.savez(
            stream,
            features=table,
            frame=np.concatenate([np.arange(length) * stride for length in lengths]),
            source=np.repeat([str(clip) for clip in features], lengths),
            model=np.array(model),
        )
    return table.shape


def demo_command(out: Out = Path("demo.png"), model: Model = None) -> None:
    """Make ultrasound clips, embed them, tell the nearest frames and draw them; needs no data and no network.

    Args:
        out: the PNG picture.
        model: the weight, <arch>.<tag>; the default one if none is named.
    """
    if out.suffix.lower() != ".png" or out.is_dir():
        raise CommandError(f"{out} is no name for a picture; write for example -o demo.png")
    name = _weight_name(model)
    from usbackbones import demo

    demo.run(name, out, _say)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit as a program does: 0, or 2 after a line that says why not."""
    commands: dict[str, Callable[..., Any]] = {
        "list": list_command,
        "info": info_command,
        "embed": embed_command,
        "demo": demo_command,
    }
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="usbackbones",
            description="Ultrasound-pretrained backbones for timm. Not a medical device.",
            args=args,
        )
    except (CommandError, registry.UnknownModel, hub.WeightsError, OSError) as error:
        _tell(" ".join(str(error).split()))
        sys.exit(2)
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(130)


class _Progress:
    """A line on the terminal that says how far a job is, once it has taken a second."""

    def __init__(self, clips: int) -> None:
        self.clips, self.done, self.seen = clips, 0, 0
        self.start = self.shown = time.monotonic()

    def frames(self, clip: Path, stride: int) -> Iterator["np.ndarray"]:
        """The frames of a clip, counted while they pass; what is wrong with it is told."""
        from usbackbones.clips import iter_frames

        for frame in iter_frames(clip, stride=stride, warn=self.warn):
            yield frame
            self.seen += 1
            now = time.monotonic()
            if sys.stderr.isatty() and now - self.start > 1 and now - self.shown > 0.2:
                self.shown = now
                self.show(now - self.start)

    def show(self, seconds: float) -> None:
        filled = 24 * self.done // self.clips
        left = f", {seconds / self.done * (self.clips - self.done):.0f} s left" if self.done else ""
        speed = f"{self.seen} frames, {self.seen / seconds:.0f}/s"
        sys.stderr.write(f"\r[{'#' * filled:24}] {self.done}/{self.clips} clips, {speed}{left}\x1b[K")
        sys.stderr.flush()

    def warn(self, fault: str) -> None:
        self.clear()
        _tell(f"warning: {fault}")

    def clear(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _weight_name(model: str | None) -> str:
    """The full name of the weight asked for, or of the default one."""
    name = model.removeprefix(registry.OWNER) if model else registry.default_name()
    if name is None:
        raise CommandError("this version of usbackbones has no weights to work with; install a newer one")
    return registry.weight(name).name


def _outline(entry: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A nested mapping as lines `key: value`."""
    for key, value in entry.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _outline(value, f"{indent}  ")
        else:
            items = value if isinstance(value, list) else [value]
            shown = ["-" if item in (None, {}) else str(item) for item in items[:6]] or ["-"]
            more = f" and {len(items) - 6} more, see --json" if len(items) > 6 else ""
            yield f"{indent}{key}: {', '.join(shown)}{more}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tell(line: str) -> None:
    sys.stderr.write(f"usbackbones: {line}\n")
