"""usbackbones convert: checkpoints of others, as timm folders."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from usbackbones._run_folder import refuse_taken
from usbackbones.cli.options import AsJson, Out
from usbackbones.cli.terminal import say, say_json
from usbackbones.exporting.checkpoint_layouts import LAYOUTS


def convert_command(
    checkpoint: Positional[Path],
    out: Out,
    source: Annotated[str, arg(name="from", metavar="{auto," + ",".join(LAYOUTS) + "}")] = "auto",
    size: int | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    drop: tuple[str, ...] = (),
    arch: Annotated[str, arg(metavar="NAME")] = "",
    num_heads: Annotated[int | None, arg(metavar="N")] = None,
    license_name: Annotated[str, arg(name="license")] = "",
    heads: bool = False,
    as_json: AsJson = False,
) -> None:
    """Make a timm folder of a checkpoint; every key is accounted for, and heads are named and dropped.

    "auto" recognizes a ResNet or a ViT of MoCo, SimCLR, DINO, MAE, BYOL, Lightning, torchvision and timm by its keys
    and shapes, and says what it took. A checkpoint that could be read in two ways is refused.

    Args:
        checkpoint: the authors' file; it is opened as tensors alone.
        out: the folder.
        source: whose it is.
        size: side of the input in pixels, where it is not the one that the file or its layout has.
        mean: on the 0..1 scale, three numbers or one for gray; needed with std where no layout has them.
        std: likewise.
        drop: prefixes of keys that the backbone can do without.
        arch: timm's name of the network, where its tensors do not tell it.
        num_heads: of a ViT, where its width does not tell it.
        license_name: license of the weights, where the layout has none.
        heads: write the heads too, to heads.safetensors.
        as_json: print the outcome as JSON.
    """
    from usbackbones.exporting.convert_checkpoint import convert

    refuse_taken(out)
    done = convert(
        checkpoint, source, out, size=size, drop=drop, heads=heads, mean=mean, std=std, arch=arch,
        num_heads=num_heads, license_name=license_name,
    )  # fmt: skip
    if as_json:
        say_json(asdict(done))
        return
    stated = done.license or "not stated; commands that train on it ask for it, --license NAME"
    say(f"{out}: {done.arch}, {done.size} px; layout: {done.layout}")
    say(f"license of the weights: {stated}")
    say("tensors: " + ", ".join(f"{count} {part}" for part, count in done.counts.items()))
    for name, role in done.heads.items():
        say(f"head {name}: {role}{'' if heads else ', not kept'}")
    for note in done.notes:
        say(f"note: {note}")
    say(f'load it: timm.create_model("local-dir:{out}", pretrained=True)')
