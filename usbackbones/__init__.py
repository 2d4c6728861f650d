"""Ultrasound-pretrained backbones for timm. Importing this package registers them.

    import timm, usbackbones
    model = timm.create_model("usbackbones/resnet18", pretrained=True, in_chans=1, num_classes=3)

The whole public API is here, each name loaded when it is first used; `usbackbones.list_weights()` names the weights.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbackbones._version import __version__

if TYPE_CHECKING:
    from usbackbones.auditing.run import audit as audit
    from usbackbones.clips import Clip as Clip
    from usbackbones.clips import ClipError as ClipError
    from usbackbones.clips import find_clips as find_clips
    from usbackbones.clips import iter_frames as iter_frames
    from usbackbones.clips import read_clip as read_clip
    from usbackbones.data.item import DataError as DataError
    from usbackbones.exporting.convert_checkpoint import ConvertError as ConvertError
    from usbackbones.exporting.convert_checkpoint import convert as convert
    from usbackbones.exporting.export import ExportError as ExportError
    from usbackbones.exporting.export import export as export
    from usbackbones.features.extract import Extractor as Extractor
    from usbackbones.features.extract import embed as embed
    from usbackbones.features.transforms import transforms as transforms
    from usbackbones.finetuning.config import FineTune as FineTune
    from usbackbones.finetuning.run import finetune as finetune
    from usbackbones.hub.backbone import build_backbone as build_backbone
    from usbackbones.hub.errors import BackboneError as BackboneError
    from usbackbones.hub.errors import UnknownModel as UnknownModel
    from usbackbones.hub.errors import WeightsAccess as WeightsAccess
    from usbackbones.hub.errors import WeightsCorrupt as WeightsCorrupt
    from usbackbones.hub.errors import WeightsError as WeightsError
    from usbackbones.hub.errors import WeightsNotFound as WeightsNotFound
    from usbackbones.hub.errors import WeightsUnavailable as WeightsUnavailable
    from usbackbones.hub.pretraining_run import RunError as RunError
    from usbackbones.hub.registry import get_weight as get_weight
    from usbackbones.hub.registry import list_weights as list_weights
    from usbackbones.hub.registry import register as register
    from usbackbones.hub.torch_checkpoint import CheckpointError as CheckpointError
    from usbackbones.hub.zoo import Weight as Weight
    from usbackbones.hub.zoo import ZooError as ZooError
    from usbackbones.phantom.simulator import phantom_clip as phantom_clip
    from usbackbones.predicting.evaluate import evaluate as evaluate
    from usbackbones.predicting.run import predict as predict
    from usbackbones.predicting.trained import PredictError as PredictError
    from usbackbones.probing.evaluate import ProbeSpec as ProbeSpec
    from usbackbones.probing.few_shot import few_shot_predict as few_shot_predict
    from usbackbones.probing.run import probe as probe
    from usbackbones.segmentation.config import UDIAT as UDIAT
    from usbackbones.segmentation.config import Segment as Segment
    from usbackbones.segmentation.models import mask_rcnn as mask_rcnn
    from usbackbones.segmentation.models import unet as unet
    from usbackbones.segmentation.run import load_segmenter as load_segmenter
    from usbackbones.segmentation.run import segment as segment

    alias_installed: bool
    """Whether `timm.create_model("usbackbones/<arch>.<tag>")` works with this timm; a warning has said if not."""

# Where each public name lives; loaded at first use, since few need PyAV, torchvision, scikit-learn or smp.
_HOME = {
    "auditing.run": ("audit",),
    "clips": ("Clip", "ClipError", "find_clips", "iter_frames", "read_clip"),
    "data.item": ("DataError",),
    "exporting.convert_checkpoint": ("ConvertError", "convert"),
    "exporting.export": ("ExportError", "export"),
    "features.extract": ("Extractor", "embed"),
    "features.transforms": ("transforms",),
    "finetuning.run": ("finetune",),
    "finetuning.config": ("FineTune",),
    "hub.backbone": ("build_backbone",),
    "hub.errors": (
        "BackboneError",
        "UnknownModel",
        "WeightsAccess",
        "WeightsCorrupt",
        "WeightsError",
        "WeightsNotFound",
        "WeightsUnavailable",
    ),
    "hub.pretraining_run": ("RunError",),
    "hub.registry": ("get_weight", "list_weights", "register"),
    "hub.torch_checkpoint": ("CheckpointError",),
    "hub.zoo": ("Weight", "ZooError"),
    "phantom.simulator": ("phantom_clip",),
    "predicting.evaluate": ("evaluate",),
    "predicting.run": ("predict",),
    "predicting.trained": ("PredictError",),
    "probing.evaluate": ("ProbeSpec",),
    "probing.few_shot": ("few_shot_predict",),
    "probing.run": ("probe",),
    "segmentation.config": ("UDIAT", "Segment"),
    "segmentation.models": ("mask_rcnn", "unet"),
    "segmentation.run": ("load_segmenter", "segment"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_BY_TIMM = ("alias_installed", "default_cfgs")  # put here by `announce`
__all__ = ["__version__", "alias_installed", *_MODULE_OF]


def _is_the_command() -> bool:
    """Whether this process is the program `usbackbones`, which understands its words before it loads torch."""
    if "timm" in sys.modules:
        return False
    if sys.argv[0] == "-m":  # Python's own word while it looks for the module to run
        return any(words == ("-m", __name__) for words in zip(sys.orig_argv, sys.orig_argv[1:], strict=False))
    return Path(sys.argv[0]).stem in ("usbackbones", "usbackbones-script")


if not _is_the_command():
    from usbackbones.hub.entrypoints import announce

    announce()
    del announce


def __getattr__(name: str) -> Any:
    if name in (*_BY_TIMM, "get_weight", "list_weights", "register"):
        import_module(f"{__name__}.hub.entrypoints").announce()
    if name in _BY_TIMM:
        return globals()[name]
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_BY_TIMM})


if "pdoc" in sys.modules:  # it shows what is in a module's dictionary, and asks a module for nothing
    globals().update({name: __getattr__(name) for name in _MODULE_OF})
