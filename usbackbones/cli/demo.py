"""usbackbones demo: the first thing that a newcomer runs."""

import json
from pathlib import Path

from usbackbones.cli.terminal import AsJson, CommandError, Model, Out, say, tell


def demo_command(out: Out = Path("demo.png"), model: Model = None, as_json: AsJson = False) -> None:
    """Make ultrasound clips, embed them, tell the nearest frames and draw them; needs no data and no network.

    Args:
        out: the PNG picture.
        model: the weight, <arch>.<tag>; the default one if none is named.
        as_json: print the picture's name as JSON, all else to stderr.
    """
    if out.suffix.lower() != ".png" or out.is_dir():
        raise CommandError(f"{out} is no name for a picture; write for example -o demo.png")
    from usbackbones.cli import demonstration
    from usbackbones.hub.backbone import full_name

    name = full_name(model)

    demonstration.run(name, out, tell if as_json else say)
    if as_json:
        say(json.dumps({"file": str(out), "model": name}))
