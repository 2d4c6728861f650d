"""usbackbones export: a weight as an ONNX or torch.export program."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from usbackbones._evenly import evenly
from usbackbones._run_folder import require_writable
from usbackbones.cli.options import AsJson, Out
from usbackbones.cli.terminal import CommandError, noted, say, say_json, tell

if TYPE_CHECKING:
    import numpy as np

_FORMS = {".onnx": "onnx", ".pt2": "torch"}
FRAMES = 256
"""About as many are taken of the clips given, evenly spaced in each; of many clips one each."""


def export_command(
    out: Out,
    model: Annotated[Positional[str | None], arg(metavar="NAME")] = None,
    preprocess: bool = False,
    channels: int | None = None,
    backbone: bool = False,
    precision: Literal["fp32", "bf16", "int8"] = "fp32",
    frames: tuple[Path, ...] = (),
    license_name: Annotated[str, arg(name="license")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a model as a program that runs without timm, and compare its output with the model's.

    A folder of finetune gives logits of classes or the value of a number, one of segment masks, all else features. The
    file's metadata has the names of the classes or of the number, size, mean, std and license.

    Args:
        out: the file: .onnx for ONNX Runtime, .pt2 for torch.export.load; replaced whole if it is there.
        model: ARCH.TAG, a timm name, local-dir:FOLDER, run:FOLDER; the default weight if none is named.
        preprocess: put resizing and normalization inside; the program then takes gray images uint8 [N, H, W].
        channels: of the input, 1 or 3; by default 1, or as a segmenter was trained.
        backbone: leave the head of a fine-tuned folder out.
        precision: bf16 for .pt2 and int8 for .onnx are smaller and faster; refused where features do not hold.
        frames: clips and folders of them, of several patients: int8 is calibrated on the first half of their frames,
            and bf16 and int8 are evaluated on the second; simulated ones if none are given.
        license_name: license of the weights, where their source states none.
        as_json: print the outcome as JSON.
    """
    form = _FORMS.get(out.suffix)
    if form is None or out.is_dir():
        raise CommandError(f"{out}: the name decides the form; end it in {' or '.join(_FORMS)}")
    if channels not in (None, 1, 3):
        raise CommandError(f"--channels {channels}: 1 or 3")
    require_writable(out.parent)
    from usbackbones.exporting.export import export
    from usbackbones.exporting.subject import subject_of

    subject = subject_of(model, channels, backbone, license_name)
    cfg: dict[str, Any] = subject.network.pretrained_cfg  # type: ignore[assignment]
    tell(f"exporting {subject.name}: tracing it, writing it and comparing it take some seconds")
    own = _frames(frames, cfg["input_size"][1:]) if frames else None
    told = {"output": subject.output, "facts": subject.facts}
    done = export(subject.network, out, form, preprocess, precision, own, **told)  # type: ignore[arg-type]
    if as_json:
        say_json(asdict(done) | {"model": subject.name} | told)
        return
    say(f"{out}: {subject.name}, {done.inputs} -> {done.outputs}")
    say(f"largest difference to the model's {subject.output}: {done.difference:.1e} of the largest one, {done.on}")
    say(f"license of the weights: {subject.facts['license']}")


def _frames(paths: tuple[Path, ...], size: tuple[int, int]) -> "np.ndarray":
    """Frames uint8 [N, height, width] of the clips at the paths, clip after clip, squashed to the size of the input."""
    import numpy as np
    from PIL import Image

    from usbackbones.clips import find_clips, read_clip

    found = [clip for path in paths for clip in find_clips(path, noted)]
    each = -(-FRAMES // len(found))
    kept = []
    for clip in found:
        frames = read_clip(clip).frames
        chosen = evenly(len(frames), each)
        pictures = (Image.fromarray(frame) for frame in frames[chosen])
        kept += [np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)) for picture in pictures]
    return np.stack(kept)
