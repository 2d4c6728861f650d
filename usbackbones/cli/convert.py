"""usbackbones convert: the official checkpoints of others, as timm folders."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from usbackbones.cli.terminal import AsJson, CommandError, Out, say
from usbackbones.exporting.checkpoint_layouts import LAYOUTS


def convert_command(
    checkpoint: Positional[Path],
    source: Annotated[str, arg(name="from", metavar="{" + ",".join(LAYOUTS) + "}")],
    out: Out,
    size: int | None = None,
    drop: tuple[str, ...] = (),
    heads: bool = False,
    as_json: AsJson = False,
) -> None:
    """Make a timm folder of an official checkpoint; every key is accounted for.

    Args:
        checkpoint: the authors' file.
        source: whose it is.
        out: the folder.
        size: input side in pixels, where it is not the one that the authors' main release has.
        drop: prefixes of keys that the backbone can do without.
        heads: write the heads too, to heads.safetensors.
        as_json: print the outcome as JSON.
    """
    from usbackbones.exporting.convert_checkpoint import ConvertError, convert

    try:
        done = convert(checkpoint, source, out, size=size, drop=drop, heads=heads)
    except ConvertError as error:
        raise CommandError(str(error)) from error
    if as_json:
        say(json.dumps(asdict(done) | {"folder": str(out)}, indent=2))
        return
    layout = LAYOUTS[source]
    say(f"{out}: {done.arch} of {layout.title}, licence of the weights: {layout.licence}")
    say("tensors: " + ", ".join(f"{count} {part}" for part, count in done.counts.items()))
    for name, role in done.heads.items():
        say(f"head {name}: {role}{'' if heads else ', not kept'}")
    if layout.note:
        say(f"note: {layout.note}")
    say(f'load it: timm.create_model("local-dir:{out}", pretrained=True)')
