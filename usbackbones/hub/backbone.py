"""From any model name to a network that tells how it was built; what every command takes where it asks for a model.

usbackbones.build_backbone("resnet18.uscl_open3", in_chans=1)
usbackbones.build_backbone("run:runs/mine")
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from usbackbones.hub import registry
from usbackbones.hub.describe import describe_as_built
from usbackbones.hub.entrypoints import announce
from usbackbones.hub.errors import BackboneError, UnknownModel, WeightsError
from usbackbones.hub.foreign_weights import account_for, folder_of, folder_of_hub, overlay_for
from usbackbones.hub.pretraining_run import backbone_of_run, input_of_run, read_json

LOCAL, HUB, RUN, RANDOM = "local-dir:", "hf-hub:", "run:", "random:"
"""What the name of a timm folder, a Hub repository, a pretraining run and an untrained network begins with."""
PLAIN_MEAN, PLAIN_STD = (0.5,) * 3, (0.25,) * 3
"""How gray levels reach a network that has no weights to say so."""
_WAYS = (
    f"use a timm model name, a usbackbones weight, {LOCAL}FOLDER, {RUN}FOLDER, or {RANDOM}ARCH; "
    "`usbackbones list` prints our weights"
)
# All that timm and torch raise on damaged files and odd arguments besides the error of safetensors; no common base.
_DAMAGE = (RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Built:
    """How `build_backbone` made a network; it stays with the network, and with its copies, as `network.built`.

    Attributes:
        name: in full, see `full_name`.
        model_args: what `timm.create_model` needs besides the architecture and the channels.
    """

    name: str
    model_args: Mapping[str, Any] = field(default_factory=dict)


def build_backbone(
    name: str | None = None,
    in_chans: int | None = 1,
    num_classes: int | None = 0,
    seed: int = 0,
    size: int | None = None,
    **model_args: Any,
) -> nn.Module:
    """Build a network with the weights that a name stands for. A plain ViT takes any multiple of its patch.

    Args:
        name: `usbackbones/<arch>.<tag>`, in short `<arch>.<tag>`, or `<arch>` for our default weight of it; a timm name
            (`timm/<name>` where ours would come first); `local-dir:FOLDER`; `hf-hub:OWNER/NAME`; `run:FOLDER` of
            training.pretrain; `random:ARCH`, untrained. None is the default weight.
        in_chans: 1 (gray), 3 (RGB, or gray three times), or None: 1 for a weight or run of ours, whose channels are
            equal; what its folder says for a folder; 3 for others.
        num_classes: 0 is no classifier, N > 0 a new one, seeded; None keeps the one that the weight has.
        seed: of all that has no weight; the caller's generator is left as it was.
        size: side of the input, pixels, where it is to differ from the weight's.
        model_args: of `timm.create_model`.

    Returns:
        A timm model in train mode; its `pretrained_cfg` has the size, channels, mean and std as built, `built` the
        full name and the arguments.

    Raises:
        UnknownModel: a name of ours that does not exist.
        WeightsError: a weight that could not be fetched or is not what was released; see `usbackbones.hub.errors`.
        BackboneError: whatever else keeps the network from being built, in one line.
    """
    if in_chans not in (None, 1, 3):
        raise BackboneError(f"in_chans is {in_chans}: images have 1 channel (gray) or 3 (RGB)")
    if size is not None and size < 1:
        raise BackboneError(f"size is {size}: give the side of the input in pixels")
    full = full_name(name)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, args = _built(full, in_chans, num_classes, seed, model_args)
            _resize(network, size)
    except (BackboneError, UnknownModel, WeightsError):
        raise
    except (SafetensorError, *_DAMAGE) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BackboneError(f"{full} could not be loaded ({reason}); {_WAYS}") from error
    vars(network)["built"] = Built(full, args)
    return network


def full_name(name: str | None = None) -> str:
    """The name that records and messages show: our weights in full, others as they were given.

    A folder of a model, as `finetune` and `segment` write it, is `local-dir:` of it.

    Raises:
        UnknownModel: a name of ours that does not exist, with the closest one.
        BackboneError: a name that nobody knows, or None where no weight is published.
    """
    announce()
    if name is None:
        name = registry.default_name()
        if name is None:
            raise BackboneError("this version of usbackbones has no weights to work with; install a newer one")
    if name.startswith((LOCAL, HUB, RUN, "timm/")):
        return name
    arch, _, tag = name.removeprefix(RANDOM).partition(".")
    if name.startswith(RANDOM):
        if not timm.is_model(arch):
            raise BackboneError(f"{name} could not be loaded: timm has no architecture {arch!r}; try {RANDOM}resnet18")
        return name
    short = name.removeprefix(registry.OWNER)
    ours = short in registry.list_weights() or (short in registry.architectures() and registry.default_of(short))
    if name.startswith(registry.OWNER) or ours:
        return f"{registry.OWNER}{registry.get_weight(short).name}"
    if timm.is_model(arch) and (not tag or timm.models.is_model_pretrained(name)):
        return name
    if any((Path(name) / file).is_file() for file in ("config.json", "model.json")):  # of ours, or timm's
        return f"{LOCAL}{name}"
    if arch in registry.architectures():
        registry.check(name)  # refuses it with the closest of ours
    near = get_close_matches(name, [*registry.list_weights(), *timm.list_models()], n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise BackboneError(
        f"{name} could not be loaded: no model of timm or of ours has this name{meant}, and no folder here; {_WAYS}"
    )


def rebuild_args(network: nn.Module) -> dict[str, Any]:
    """What `timm.create_model` needs besides architecture, channels and classes to build the network again; for JSON.

    Args:
        network: of `build_backbone`; of another timm model only what it can tell itself, a ViT's size and pooling.
    """
    built = getattr(network, "built", None)
    args: dict[str, Any] = dict(built.model_args) if built else {}
    patches: Any = getattr(network, "patch_embed", None)
    if patches is not None and getattr(patches, "img_size", None):
        height, width = patches.img_size
        args["img_size"] = height if height == width else [height, width]
        args["global_pool"] = network.global_pool
    if getattr(network, "dynamic_img_size", False):
        args["dynamic_img_size"] = True
    return args


def untrained(arch: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """A network of timm's architecture with seeded random weights; the caller's generator is left as it was.

    timm starts a ResNet with every residual branch scaled by zero, which leaves little more than its stem and is easy
    to beat. Here such norms are set to one, so that the whole untrained network takes part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(arch, pretrained=False, num_classes=0, **arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    return network


def _built(
    full: str, in_chans: int | None, num_classes: int | None, seed: int, given: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a full name, and the arguments that it was made with."""
    if full.startswith(RANDOM):
        arch = full.removeprefix(RANDOM)
        args = _any_size(arch, given)
        network: Any = untrained(arch, seed, in_chans=in_chans or 3, **args)
        describe_as_built(network, mean=PLAIN_MEAN, std=PLAIN_STD)
        return _with_classifier(network, num_classes), args
    if full.startswith(RUN):
        folder = Path(full.removeprefix(RUN))
        recipe = read_json(folder / "recipe.json")
        args = dict(recipe["model_args"]) | _any_size(recipe["arch"], given)
        network = backbone_of_run(folder, in_chans or 1, **args)[0].train()
        told = input_of_run(recipe)
        describe_as_built(network, told["input_size"][1:], **told)
        return _with_classifier(network, num_classes), args
    return _pretrained(full, in_chans, num_classes, given)


def _pretrained(
    full: str, in_chans: int | None, num_classes: int | None, given: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a name that timm can create, with its weights."""
    folder, overlay, kept = None, {}, {}
    if full.startswith((LOCAL, HUB)):
        folder = folder_of(full) if full.startswith(LOCAL) else folder_of_hub(full)
        config = read_json(folder / "config.json")
        source, arch, cfg = f"{LOCAL}{folder}", config["architecture"], config.get("pretrained_cfg", config)
        kept = {key: value for key, value in (config.get("model_args") or {}).items() if key != "num_classes"}
        channels, stored = (
            kept.pop("in_chans", cfg["input_size"][0]),
            config.get("num_classes", cfg.get("num_classes", 0)),
        )
    elif full.startswith(registry.OWNER):
        weight = registry.get_weight(full.removeprefix(registry.OWNER))
        source, arch, kept, channels, stored = full, weight.arch, dict(weight.model_args), 1, 0
    else:
        source = full.removeprefix("timm/")
        arch, channels, overlay = source.partition(".")[0], 3, overlay_for(source)
        cfg = timm.get_pretrained_cfg(source)
        stored = cfg.num_classes if cfg else 0
    args = kept | _any_size(arch, given)
    classes = stored if num_classes is None else num_classes
    made: dict[str, Any] = args | ({"pretrained_cfg_overlay": overlay} if overlay else {})
    network: Any = timm.create_model(
        source, pretrained=True, num_classes=classes, in_chans=in_chans or channels, **made
    )
    if folder:
        account_for(folder, network)
    if num_classes and num_classes == stored:
        network.reset_classifier(num_classes)  # timm kept the weight's own, which names other things
    return network, args


def _resize(network: Any, size: int | None) -> None:
    """Describe the network as built, for images of another size if one is given."""
    patches = getattr(network, "patch_embed", None)
    for patch in getattr(patches, "patch_size", None) or ():
        if size and size % patch:
            raise BackboneError(f"size is {size}: give a multiple of {patch}, the side of the network's patches")
    if size and not getattr(network, "dynamic_img_size", False) and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=size)
    describe_as_built(network, size)


def _any_size(arch: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's arguments, and for a plain ViT that its positions are interpolated to each image."""
    if "dynamic_img_size" in given or not timm.is_model(arch):
        return dict(given)
    with torch.device("meta"):
        plain_vit = isinstance(timm.create_model(arch), VisionTransformer)
    return {"dynamic_img_size": True, **given} if plain_vit else dict(given)


def _with_classifier(network: Any, num_classes: int | None) -> nn.Module:
    if num_classes:
        network.reset_classifier(num_classes)
    made: nn.Module = network
    return made
