"""Ultrasound-pretrained backbones for timm. Importing this package registers them.

    import timm, usbackbones
    model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1, num_classes=3)

`usbackbones.list_weights()` names what there is.
"""

import json
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

from usbackbones._version import __version__
from usbackbones.models import ENTRYPOINTS
from usbackbones.registry import default_cfgs as default_cfgs  # timm looks for it here
from usbackbones.registry import install, list_weights, register

# Not lazy, so that the name means the function and not the submodule; torchvision is loaded at the first call.
from usbackbones.transforms import transforms

if TYPE_CHECKING:
    from usbackbones.clips import Clip, ClipError, read_clip
    from usbackbones.probe import embed

__all__ = [
    "Clip",
    "ClipError",
    "__version__",
    "alias_installed",
    "embed",
    "list_weights",
    "read_clip",
    "register",
    "transforms",
]

# Loaded at first use: PyAV and scikit-learn are slow to import and many users need neither.
_LAZY = {"Clip": "clips", "ClipError": "clips", "read_clip": "clips", "embed": "probe"}

globals().update(ENTRYPOINTS)
alias_installed: bool = install(ENTRYPOINTS)
register(json.loads(resources.files(__name__).joinpath("zoo.json").read_text(encoding="utf-8")))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
