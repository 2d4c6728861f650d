"""usbackbones export: a weight as an ONNX or torch.export program."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from usbackbones.commands.terminal import AsJson, CommandError, Out, model_name, say

_FORMS = {".onnx": "onnx", ".pt2": "torch"}


def export_command(
    out: Out,
    model: Annotated[Positional[str | None], arg(metavar="ARCH.TAG|local-dir:DIR")] = None,
    preprocess: bool = False,
    channels: int = 1,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    as_json: AsJson = False,
) -> None:
    """Write a weight as a program that runs without timm, and compare its features with the model's.

    Args:
        out: the file: .onnx for ONNX Runtime, .pt2 for torch.export.load.
        model: the weight, or local-dir: and a timm folder; the default weight if none is named.
        preprocess: put resizing and normalisation inside; the program then takes gray frames uint8 [N, H, W].
        channels: of the input, 1 or 3.
        precision: bf16 for .pt2 and int8 for .onnx are smaller and faster; refused where features do not hold.
        as_json: print the outcome as JSON.
    """
    form = _FORMS.get(out.suffix)
    if form is None or out.is_dir():
        raise CommandError(f"{out}: the name decides the form; end it in {' or '.join(_FORMS)}")
    if channels not in (1, 3):
        raise CommandError(f"--channels {channels}: 1 or 3")
    name = model_name(model)
    import timm

    from usbackbones.export import ExportError, export

    network = timm.create_model(name, pretrained=True, num_classes=0, in_chans=channels)
    try:
        done = export(network, out, form, preprocess, precision=precision)  # type: ignore[arg-type]
    except ExportError as error:
        raise CommandError(str(error)) from error
    if as_json:
        say(json.dumps(asdict(done) | {"file": str(out), "model": name}, indent=2))
        return
    say(f"{out}: {name}, {done.inputs} -> features float32 [N, {done.features}]")
    say(f"largest difference to the model's features: {done.difference:.1e} of the largest one")
