"""usbackbones export: a weight as an ONNX or torch.export program."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from usbackbones.cli.terminal import AsJson, CommandError, Out, say

if TYPE_CHECKING:
    import numpy as np

_FORMS = {".onnx": "onnx", ".pt2": "torch"}
FRAMES = 256
"""About as many are taken of the clips given, evenly spaced in each; of many clips one each."""


def export_command(
    out: Out,
    model: Annotated[Positional[str | None], arg(metavar="NAME")] = None,
    preprocess: bool = False,
    channels: int = 1,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    frames: tuple[Path, ...] = (),
    as_json: AsJson = False,
) -> None:
    """Write a weight as a program that runs without timm, and compare its features with the model's.

    Args:
        out: the file: .onnx for ONNX Runtime, .pt2 for torch.export.load.
        model: the weight, or local-dir: and a timm folder; the default weight if none is named.
        preprocess: put resizing and normalisation inside; the program then takes gray frames uint8 [N, H, W].
        channels: of the input, 1 or 3.
        precision: bf16 for .pt2 and int8 for .onnx are smaller and faster; refused where features do not hold.
        frames: clips and folders of them, of several patients: int8 is calibrated on the first half of their frames,
            and bf16 and int8 are judged on the second; simulated ones if none are given.
        as_json: print the outcome as JSON.
    """
    form = _FORMS.get(out.suffix)
    if form is None or out.is_dir():
        raise CommandError(f"{out}: the name decides the form; end it in {' or '.join(_FORMS)}")
    if channels not in (1, 3):
        raise CommandError(f"--channels {channels}: 1 or 3")
    from usbackbones.clips.read import ClipError
    from usbackbones.exporting.export import ExportError, export
    from usbackbones.hub.backbone import build_backbone, full_name

    name = full_name(model)
    network = build_backbone(name, channels)
    cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    try:
        own = _frames(frames, cfg["input_size"][1:]) if frames else None
        done = export(network, out, form, preprocess, precision, own)  # type: ignore[arg-type]
    except (ExportError, ClipError) as error:
        raise CommandError(str(error)) from error
    if as_json:
        say(json.dumps(asdict(done) | {"file": str(out), "model": name}, indent=2))
        return
    say(f"{out}: {name}, {done.inputs} -> features float32 [N, {done.features}]")
    say(f"largest difference to the model's features: {done.difference:.1e} of the largest one")


def _frames(paths: tuple[Path, ...], size: tuple[int, int]) -> "np.ndarray":
    """Frames uint8 [N, height, width] of the clips at the paths, clip after clip, squashed to the size of the input."""
    import numpy as np
    from PIL import Image

    from usbackbones.clips import find_clips, read_clip

    found = [clip for path in paths for clip in find_clips(path)]
    each = -(-FRAMES // len(found))
    kept = []
    for clip in found:
        frames = read_clip(clip).frames
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(each, len(frames))).round().astype(int))
        pictures = (Image.fromarray(frame) for frame in frames[chosen])
        kept += [np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)) for picture in pictures]
    return np.stack(kept)
