"""A backbone without timm: ONNX or a `torch.export` program, checked against the model it was made from.

    usbackbones export resnet18.<tag> -o backbone.onnx --preprocess

With the preprocessing inside, the program takes gray frames uint8 [N, H, W] of any size and does what the eval
transform does: an antialiased resize, the scale to 0..1, mean and std; it does not round to whole grey levels in
between, so features agree with those of the transform to about a percent. Without, it takes what the transform gives.

A program may be smaller than the model: bf16 halves it, int8 quarters it. Such a program is written only if its
features agree with the model's; docs/export.md has what that costs and gains.
"""

import copy
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usbackbones._errors import Refused
from usbackbones._files import atomic_write
from usbackbones._words import plural
from usbackbones.exporting.quantize import cosines, quantize
from usbackbones.features.transforms import transforms
from usbackbones.phantom.simulator import phantom_clip

Form = Literal["onnx", "torch"]
Precision = Literal["fp32", "bf16", "int8"]
TOLERANCE = 1e-4
"""Largest difference of a feature of an fp32 program to the model's own, relative to the largest feature."""
AGREEMENT = 0.97
"""Smallest cosine of a bf16 or int8 program's features with the model's, as `quantize.cosines` has it."""
_FORM_OF: dict[Precision, Form] = {"bf16": "torch", "int8": "onnx"}
_FEWEST = 16  # frames that a smaller program is calibrated and evaluated on
FACTS = "usbackbones.json"
"""The extra file of a .pt2 that holds its facts: `torch.export.load(file, extra_files={FACTS: ""})` fills it in."""


class ExportError(Refused):
    """A model that cannot be exported, or an export that computes another function."""


@dataclass(frozen=True)
class Exported:
    """An exported program.

    Attributes:
        file: .onnx or .pt2.
        inputs: name and shape of the input, for a person.
        features: size of a row of the output.
        difference: largest difference to the model's own features, relative to the largest feature; on random pictures,
            and for bf16 and int8 on the second half of the frames.
        precision: of the weights: "fp32", "bf16" or "int8".
        agreement: smallest cosine with the model's features on the second half of the frames; None for fp32.
        outputs: name and shape of the output, for a person.
        on: what the two were compared on, as "on 3 random images".
    """

    file: Path
    inputs: str
    features: int
    difference: float
    precision: Precision = "fp32"
    agreement: float | None = None
    outputs: str = ""
    on: str = ""


class InBf16(nn.Module):
    """A copy of a model whose numbers are bf16, for images and features in fp32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).bfloat16()
        self.pretrained_cfg = model.pretrained_cfg

    def forward(self, images: Tensor) -> Tensor:
        """float32 [N, C, H, W] -> features float32 [N, D]."""
        return self.model(images.bfloat16()).float()


class WithPreprocessing(nn.Module):
    """A model behind its own eval transform, for gray frames uint8 [N, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        if cfg["interpolation"] != "bilinear" or cfg["crop_mode"] != "squash" or cfg["crop_pct"] != 1:
            raise ExportError(
                f"preprocessing by {cfg['interpolation']}, {cfg['crop_mode']}, {cfg['crop_pct']} cannot be put inside; "
                "only bilinear, squash, 1.0: export without it and use usbackbones.features.transforms"
            )
        self.model = model
        self.channels, *self.size = cfg["input_size"]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(cfg[name], dtype=torch.float32)[:, None, None])

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [N, H, W] -> features [N, D]."""
        pixels = F.interpolate(frames[:, None].float(), self.size, mode="bilinear", antialias=True)
        return self.model((pixels.expand(-1, self.channels, -1, -1) / 255 - self.mean) / self.std)


def export(
    model: nn.Module,
    out: Path,
    form: Form = "onnx",
    preprocess: bool = False,
    precision: Precision = "fp32",
    frames: np.ndarray | None = None,
    *,
    output: str = "features",
    facts: Mapping[str, str] | None = None,
) -> Exported:
    """Write a model as a program, open it again and compare its output with the model's.

    The input is called `images`, its first axis, of any length, `batch`.

    Args:
        model: a timm model, as a rule made with num_classes=0; put in eval mode.
        out: the file, .onnx or .pt2.
        form: "onnx" for ONNX Runtime and its kin, "torch" for `torch.export.load`.
        preprocess: put the eval transform inside.
        precision: of the weights: "fp32"; "bf16" with "torch"; "int8" with "onnx".
        frames: uint8 [N, H, W], N >= 16, clip after clip: int8 learns its ranges from the first half, and bf16 and int8
            are evaluated on the second. None takes simulated ones; your own are better. Not used for fp32.
        output: how the output is called: "features", or "logits", "value" or "masks" of a model with a head.
        facts: for the file's metadata (of a .pt2 its extra file `FACTS`), as `subject.subject_of` collects them.

    Raises:
        ExportError: if a package is missing, the preprocessing has no place inside, the form has not that precision,
            the frames are of another kind, or the program's features are not the model's. Nothing is written then.
    """
    if _FORM_OF.get(precision, form) != form:
        raise ExportError(f"{out}: no {precision} program in the form {form!r}; write bf16 as .pt2 and int8 as .onnx")
    network = (WithPreprocessing(model) if preprocess else model).eval()
    example, shapes = _example(model, preprocess)
    if precision == "fp32":
        known = evaluated = example[torch.tensor([0, 1, 0])]  # another batch size than the one it is traced with
    else:
        known, evaluated = _halves(model, frames, preprocess)
    written = network
    if precision == "bf16":
        written = (WithPreprocessing(InBf16(model)) if preprocess else InBf16(model)).eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place, torch.no_grad():
        file = Path(place) / f"program{out.suffix}"
        program = torch.export.export(written, (example,), dynamic_shapes=(shapes,))
        if form == "torch":
            saved = io.BytesIO()  # since torch hides what a disk refuses
            torch.export.save(program, saved, extra_files={FACTS: json.dumps(dict(facts or {}))})
            file.write_bytes(saved.getvalue())
        else:
            _write_onnx(program, file, output)
            if precision == "int8":
                quantize(file, file, known.numpy())
            _name_and_tell(file, facts or {})
        ours, theirs = network(evaluated).numpy(), _run(file, form, evaluated)
        difference = float(np.abs(theirs - ours).max() / np.abs(ours).max())
        flat = (theirs.reshape(len(theirs), -1), ours.reshape(len(ours), -1))
        agreed = None if precision == "fp32" else float(cosines(*flat).min())
        _refuse_another_function(out, precision, difference, agreed)
        with atomic_write(out) as stream:
            stream.write(file.read_bytes())
    channels, height, width = _input_size(model)
    inputs = "images uint8 [N, H, W]" if preprocess else f"images float32 [N, {channels}, {height}, {width}]"
    outputs = f"{output} float32 {['N', *ours.shape[1:]]}".replace("'", "")
    kind = "random image" if precision == "fp32" else "simulated frame" if frames is None else "frame"
    on = f"on {plural(len(evaluated), kind)}"
    return Exported(out, inputs, ours.shape[1], difference, precision, agreed, outputs, on)


def _input_size(model: nn.Module) -> tuple[int, int, int]:
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return cfg["input_size"]


def _example(model: nn.Module, preprocess: bool) -> tuple[Tensor, dict[int, Any]]:
    """Two random pictures to trace with, and the dimensions that may differ in use."""
    channels, height, width = _input_size(model)
    generator = torch.Generator().manual_seed(0)
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if not preprocess:
        return torch.randn(2, channels, height, width, generator=generator), shapes
    # Far from the input's size, so that the resize is exercised and not taken for a constant.
    example = torch.randint(0, 256, (2, height + 37, width + 53), dtype=torch.uint8, generator=generator)
    sides = {1: torch.export.Dim("height", min=16, max=4096), 2: torch.export.Dim("width", min=16, max=4096)}
    return example, shapes | sides


def _halves(model: nn.Module, frames: np.ndarray | None, preprocess: bool) -> tuple[Tensor, Tensor]:
    """What to calibrate on and what to evaluate on, as the program takes it."""
    if frames is None:
        frames = np.concatenate([phantom_clip(patient, frames=2, size=128) for patient in range(24)])
    if frames.dtype != np.uint8 or frames.ndim != 3 or len(frames) < _FEWEST:
        raise ExportError(f"frames are {frames.dtype} {list(frames.shape)}; give uint8 [N, H, W], {_FEWEST} at least")
    pictures = torch.from_numpy(frames) if preprocess else transforms(model).clip_batch(frames)
    return pictures[: len(pictures) // 2], pictures[len(pictures) // 2 :]


def _refuse_another_function(out: Path, precision: Precision, difference: float, agreed: float | None) -> None:
    if agreed is None and not difference <= TOLERANCE:
        raise ExportError(f"{out}: its features differ from the model's by {difference:.1e}, more than {TOLERANCE}")
    if agreed is not None and not agreed >= AGREEMENT:
        raise ExportError(
            f"{out}: in {precision} the features of a frame agree with the model's to a cosine of only {agreed:.3f}, "
            f"less than {AGREEMENT}; give frames of your own (--frames CLIPS, or frames= of export), or keep fp32"
        )


def _write_onnx(program: torch.export.ExportedProgram, file: Path, output: str) -> None:
    try:
        import onnxscript  # noqa: F401 - what torch.onnx needs, and says so only in a traceback
    except ImportError as error:
        raise ExportError("ONNX needs packages that are not here: pip install 'usbackbones[export]'") from error
    onnx_program = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["images"], output_names=[output])
    assert onnx_program is not None
    onnx_program.save(file, external_data=False)


def _name_and_tell(file: Path, facts: Mapping[str, str]) -> None:
    """Call the first axis `batch` wherever the exporter gave it a symbol of its own, and put the facts in."""
    import onnx

    model = onnx.load(file)
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == symbol:
                axis.dim_param = "batch"
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, file)


def _run(file: Path, form: Form, pictures: Tensor) -> np.ndarray:
    """The features by the program in the file."""
    if form == "torch":
        return torch.export.load(file).module()(pictures).detach().numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pictures.numpy()})[0]
