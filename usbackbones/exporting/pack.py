"""A pretraining run as a timm folder for private use: an archive of one's own, to the end.

    usbackbones pack runs/mine -o mine

The folder loads with `timm.create_model("local-dir:mine", pretrained=True)` and holds no path, no file name and no
patient. Its card says that it is private; publishing is `python -m training.release add`, which checks much more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from torch import Tensor, nn

from usbackbones._errors import Refused
from usbackbones._files import atomic_write
from usbackbones._version import __version__
from usbackbones.hub.backbone import RUN
from usbackbones.hub.licensing import License, license_for
from usbackbones.hub.pretraining_run import GRAY_INPUT, RunError, backbone_of_run, input_side, read_json
from usbackbones.hub.timm_folder import timm_config, write_timm_folder
from usbackbones.phantom.simulator import phantom_clip

TOLERANCE = 0.01
"""Largest difference of a feature of the folder to the run's own that half precision explains, of the largest one."""
FILES = ("model.safetensors", "config.json", "README.md")
_CARD = """# {name} (private)

**Private: for use where the data were, not for publication.** Pretrained by usbackbones {version} with
{method} on {groups} groups and {clips} clips of {sources}. Not a medical device.

    timm.create_model("local-dir:FOLDER", pretrained=True, in_chans=1, num_classes=0)
    usbackbones probe DATA --model local-dir:FOLDER

- Input: gray, {size} x {size} px, mean {mean:g}, standard deviation {std:g} on the 0..1 scale.
- License: {license}.
- Licenses of the data, as recorded in the corpus: {data}.
"""


class PackError(Refused):
    """A run that cannot be packed; one line that says why."""


@dataclass(frozen=True)
class Packed:
    """A packed run.

    Attributes:
        folder: holds config.json, model.safetensors and README.md.
        arch: timm's name.
        license: of the weights.
        difference: largest difference of the folder's features to the run's, relative to the largest feature.
    """

    folder: Path
    arch: str
    license: License
    difference: float


def pack(run: Path, out: Path, license_name: str = "") -> Packed:
    """Write the backbone of a finished run as a timm folder for private use.

    Args:
        run: the folder of `python -m training.pretrain`.
        out: the folder to write; new or empty.
        license_name: of the weights; "private" if none is given.

    Raises:
        RunError, CheckpointError: if the run is not finished or damaged.
        PackError: if `out` holds files, or the run diverged.
        LicenseError: if `license_name` allows what the data or the first weights do not.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PackError(f"{out} is there already: choose another -o, or delete it")
    if not (run / "summary.json").is_file():
        raise RunError(f"{run} holds no finished run: finish it with training.pretrain")
    made = read_json(run / "recipe.json")["model_args"]
    model_args = made | ({"dynamic_img_size": True} if "img_size" in made else {})  # a ViT takes any size
    backbone, recipe = backbone_of_run(run, **model_args)
    corpus, license_ = read_json(run / "corpus.json"), license_for(f"{RUN}{run}", license_name)
    try:
        tensors = published_tensors(backbone)
    except ValueError as error:
        raise PackError(f"{run}: {error}") from error
    size = input_side(recipe)
    config = timm_config(
        backbone,
        arch=recipe["arch"],
        model_args=model_args,
        tag="private",
        size=size,
        mean=[recipe["mean"]] * 3,
        std=[recipe["std"]] * 3,
        licence=license_.weights,
        origin_url="",
        description=f"{recipe['method']['name']} on private data, by usbackbones {__version__}",
        **GRAY_INPUT,
    )
    block = license_.block() | {"inherited_from": f"the run of {out.name}"}
    config["usbackbones"] = {"private": True, "license": block}
    card = _CARD.format(
        name=out.name,
        version=__version__,
        method=recipe["method"]["name"],
        groups=len(corpus["groups"]),
        clips=len(corpus["clips"]),
        sources=", ".join(corpus["sources"]) or "one source",
        size=size,
        mean=recipe["mean"],
        std=recipe["std"],
        license=license_.weights + ("; non-commercial use only" if license_.noncommercial else ""),
        data=", ".join(license_.data) or "none recorded",
    )
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".pack") as place:
        write_timm_folder(Path(place), tensors, config)
        difference = max(differences(Path(place), backbone, recipe).values())
        if not difference < TOLERANCE:
            raise PackError(f"{out}: features differ from the run's by {difference:.2%}; nothing is written")
        with atomic_write(Path(place) / "README.md", "w") as stream:
            stream.write(card)
        for name in FILES:
            (Path(place) / name).replace(out / name)
    return Packed(out, recipe["arch"], license_, difference)


def published_tensors(backbone: nn.Module) -> dict[str, Tensor]:
    """The tensors of a run's backbone as a file has them: three gray channels, half precision.

    Three equal channels because every image pipeline has three; with one mean and std for all of them, `in_chans=1`,
    which sums the first convolution over its channels, gives the network that was trained. Norms stay float32, since a
    running variance of a dead channel is too small for fp16; so does the first convolution, since timm would round its
    sum to the stored type and the channels would differ by 1e-4.

    Raises:
        ValueError: naming a tensor that is not finite, or that fp16 cannot hold.
    """
    config: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    first = config["first_conv"] + ".weight"
    wide_ones = {first} | {
        f"{name}.{key}"
        for name, module in backbone.named_modules()
        if "norm" in type(module).__name__.lower()
        for key in module.state_dict()
    }
    tensors = {}
    for key, value in backbone.state_dict().items():
        wide = value.repeat(1, 3, 1, 1) / 3 if key == first else value
        stored = wide.half() if wide.is_floating_point() and key not in wide_ones else wide
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} holds NaN or infinity: the run diverged, and is not released")
        if not torch.isfinite(stored).all():
            raise ValueError(f"{key} reaches {float(value.abs().max()):.3g}, beyond fp16: the run is not released")
        tensors[key] = stored.contiguous()
    return tensors


@torch.inference_mode()
def differences(folder: Path, backbone: nn.Module, recipe: Mapping[str, Any]) -> dict[int, float]:
    """How far the features of a folder, loaded by plain timm, are from the run's, of the largest; {channels: share}."""
    size = input_side(dict(recipe))
    frames = torch.from_numpy(phantom_clip(0, frames=4, size=size)).float().unsqueeze(1) / 255
    frames = (frames - recipe["mean"]) / recipe["std"]
    expected = backbone(frames)
    found = {}
    for channels in (1, 3):
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, in_chans=channels).eval()
        got = loaded(frames.expand(-1, channels, -1, -1))
        found[channels] = float((got - expected).abs().max() / expected.abs().max())
    return found
