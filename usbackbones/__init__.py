"""Ultrasound-pretrained backbones for timm. Importing this package registers them.

    import timm, usbackbones
    model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1, num_classes=3)

`usbackbones.list_weights()` names what there is.
"""

import json
import sys
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbackbones._version import __version__
from usbackbones.hub.errors import WeightsAccess, WeightsCorrupt, WeightsError, WeightsNotFound, WeightsUnavailable
from usbackbones.hub.zoo import ZooError

if TYPE_CHECKING:
    from usbackbones.clips.read import Clip, ClipError, read_clip
    from usbackbones.features.transforms import transforms
    from usbackbones.hub.registry import default_cfgs as default_cfgs
    from usbackbones.hub.registry import list_weights, register
    from usbackbones.probing.probes import embed

    alias_installed: bool
    """Whether `timm.create_model("usbackbones/<arch>.<tag>")` works with this timm; a warning has said if not."""

__all__ = [
    "Clip",
    "ClipError",
    "WeightsAccess",
    "WeightsCorrupt",
    "WeightsError",
    "WeightsNotFound",
    "WeightsUnavailable",
    "ZooError",
    "__version__",
    "alias_installed",
    "embed",
    "list_weights",
    "read_clip",
    "register",
    "transforms",
]

# Loaded at first use: PyAV and scikit-learn are slow to import and many users need neither.
_LAZY = {"Clip": "clips.read", "ClipError": "clips.formats.base", "read_clip": "clips.read", "embed": "probing.probes"}

_WITH_TIMM = {"alias_installed", "default_cfgs", "list_weights", "register", "transforms"}


def _register() -> None:
    """Import timm, tell it of our models, and put the names that need it here."""
    # Not lazy, so that the name means the function and not the submodule; torchvision is loaded at the first call.
    from usbackbones.features.transforms import transforms
    from usbackbones.hub.entrypoints import ENTRYPOINTS
    from usbackbones.hub.registry import (  # timm looks for default_cfgs here
        default_cfgs,
        install,
        list_weights,
        register,
    )

    globals().update(ENTRYPOINTS)
    globals().update(default_cfgs=default_cfgs, list_weights=list_weights, register=register, transforms=transforms)
    globals()["alias_installed"] = install(ENTRYPOINTS)
    register(json.loads(resources.files(__name__).joinpath("zoo.json").read_text(encoding="utf-8")))


def _is_the_command() -> bool:
    """Whether this process is the program `usbackbones`, which understands its words before it loads torch."""
    if "timm" in sys.modules:
        return False
    if sys.argv[0] == "-m":  # Python's own word while it looks for the module to run
        return any(words == ("-m", __name__) for words in zip(sys.orig_argv, sys.orig_argv[1:], strict=False))
    return Path(sys.argv[0]).stem in ("usbackbones", "usbackbones-script")


if not _is_the_command():
    _register()


def __getattr__(name: str) -> Any:
    if name in _WITH_TIMM and name not in globals():
        _register()
        return globals()[name]
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_WITH_TIMM})


if "pdoc" in sys.modules:  # it shows what is in a module's dictionary, and asks a module for nothing
    globals().update({name: __getattr__(name) for name in _LAZY})
