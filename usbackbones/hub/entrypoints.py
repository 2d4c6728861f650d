"""The entrypoints: timm's own networks, with our weights and the input they were trained on.

Each entrypoint hands the work to timm's entrypoint of the same architecture, so every argument means what it means
there. What is added: the file is found and proved (`hub`), every tensor in it is accounted for before it is loaded,
and `model.pretrained_cfg` describes the model as built, so that timm's transforms fit 1 channel as well as 3.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models import PretrainedCfg, model_entrypoint, resolve_pretrained_cfg
from torch import nn

from usbackbones.hub import locate, registry
from usbackbones.hub.describe import describe_as_built
from usbackbones.hub.errors import WeightsCorrupt, WeightsNotFound
from usbackbones.hub.zoo import Weight

# timm's names. One line more here is one architecture more, `us<name>`.
ARCHITECTURES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
)
# Arguments that change the input, the head, the wrapping or the placement, but not the layers that have weights.
_NOT_LAYERS = {"in_chans", "num_classes", "features_only", "out_indices", "feature_cls", "device", "dtype"}


def entrypoint(arch: str) -> Callable[..., nn.Module]:
    """The function `us<arch>` that timm is told of for one of its own architectures."""

    def ours(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build(arch, pretrained, **kwargs)

    ours.__name__ = ours.__qualname__ = f"us{arch}"
    ours.__doc__ = f"timm's {arch} for ultrasound; the arguments are timm's, see `usbackbones.hub.entrypoints.build`."
    # timm names the module of a model after the last part of this; "models" would be taken for one of its own.
    ours.__module__ = "usbackbones"
    return ours


ENTRYPOINTS: dict[str, Callable[..., nn.Module]] = {f"us{arch}": entrypoint(arch) for arch in ARCHITECTURES}


def announce() -> bool:
    """Register our entrypoints and the package's own weights with timm; a second call does nothing.

    timm looks for an entrypoint and for `default_cfgs` in the module that the entrypoint names as its own, which is
    the package itself: there they are put.

    Returns:
        Whether `timm.create_model("usbackbones/<arch>.<tag>")` works with this timm; a warning has said if not.
    """
    face = vars(sys.modules["usbackbones"])
    if "alias_installed" not in face:
        face.update(ENTRYPOINTS, default_cfgs=registry.default_cfgs)
        face["alias_installed"] = registry.install(ENTRYPOINTS)
        registry.register(json.loads(resources.files("usbackbones").joinpath("zoo.json").read_text(encoding="utf-8")))
    installed: bool = face["alias_installed"]
    return installed


def build(
    arch: str,
    pretrained: bool = False,
    *,
    pretrained_cfg: str | dict[str, Any] | None = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build timm's `arch`, with one of our weights if asked to.

    Args:
        arch: timm's name of the architecture.
        pretrained: load the weight; False touches no file.
        pretrained_cfg: its tag, or a whole timm cfg; None is the default tag of the architecture.
        pretrained_cfg_overlay: replaces entries of the cfg. With a `file`, `url`, `state_dict` or another
            `hf_hub_id` the weights are the caller's own and timm loads them by its own rules.
        cache_dir: another Hugging Face cache than the default.
        kwargs: timm's: `num_classes`, `in_chans`, `features_only`, `out_indices`, `global_pool`, `img_size`, ...
            What the caller leaves out is as it was in pretraining.

    Returns:
        The model. Its `pretrained_cfg` has `input_size`, `mean` and `std` for the channels and size as built, and
        timm's own architecture name, so that an export of the model loads without this package.

    Raises:
        UnknownModel: no such tag.
        WeightsError: the file could not be loaded, or is not what was released; see `errors`.
        ValueError: the arguments ask for layers that the weight does not have.
    """
    if isinstance(pretrained_cfg, str):
        registry.check(f"{arch}.{pretrained_cfg}")
    cfg = resolve_pretrained_cfg(f"us{arch}", pretrained_cfg, pretrained_cfg_overlay)
    cfg = replace(cfg, architecture=arch)
    weight = registry.find(arch, cfg.tag)
    if weight is not None:
        kwargs = {**weight.model_args, **kwargs}
    file = None
    if pretrained and not _is_callers_own(cfg, weight):
        if weight is None:
            raise WeightsNotFound(
                f"No weights are published for {arch}; there are {', '.join(registry.list_weights()) or 'none'}. "
                "Choose one of them, or pretrained=False for random weights."
            )
        file = locate.locate(weight, cache_dir)
        tensors = locate.read(file, weight)
        if not _account(weight, cfg, file, tensors, kwargs):
            kwargs["pretrained_strict"] = False
        # timm adapts the first layer to `in_chans` in the stored type: a sum of fp16 kernels rounded to fp16 would
        # differ from the 3-channel network by 1e-4.
        first = f"{cfg.first_conv}.weight"
        cfg = replace(cfg, state_dict={**tensors, first: tensors[first].float()})
    model = model_entrypoint(arch)(pretrained=pretrained, pretrained_cfg=cfg, cache_dir=cache_dir, **kwargs)
    describe_as_built(model, kwargs.get("img_size"), **({"file": str(file)} if file else {}))
    return model


class _Kind(NamedTuple):
    """What a tensor must have in common with the one it is loaded into; the precision may differ."""

    shape: tuple[int, ...]
    real: bool


def _is_callers_own(cfg: PretrainedCfg, weight: Weight | None) -> bool:
    """Whether the cfg points at weights that are not ours."""
    registered = weight.pinned_hub_id if weight else None
    return bool(cfg.file or cfg.url or cfg.state_dict) or cfg.hf_hub_id != registered


def _account(
    weight: Weight,
    cfg: PretrainedCfg,
    file: Path,
    tensors: Mapping[str, torch.Tensor],
    kwargs: Mapping[str, Any],
) -> bool:
    """Account for every tensor of the file, by name, shape and kind of number.

    timm alone would not: as soon as `num_classes` differs from the release it loads non-strictly and says nothing
    of missing layers.

    Returns:
        True if the file has exactly the layers that `kwargs` ask for. False if only the final norm is in another
        place: a ViT that pools by "avg" norms after pooling (`fc_norm`), any other norms before (`norm`); the new
        one starts fresh, as in timm.

    Raises:
        WeightsCorrupt: the file is not the network that its zoo entry describes.
        ValueError: it is, but `kwargs` ask for other layers.
    """
    found = _kinds(tensors)
    # The caller may have overlaid another size; the file has the one it was trained at.
    released = _layers(replace(cfg, input_size=(3, weight.input.size, weight.input.size)), weight.model_args)
    if found != released:
        faults = {
            "missing": released.keys() - found.keys(),
            "unexpected": found.keys() - released.keys(),
        }
        both = found.keys() & released.keys()
        faults["of another shape"] = {key for key in both if found[key].shape != released[key].shape}
        faults["not of real numbers"] = {key for key in both if found[key].real < released[key].real}
        faults["not of whole numbers"] = {key for key in both if found[key].real > released[key].real}
        raise WeightsCorrupt.about(
            weight,
            f"{file} is not a {weight.arch}: {_counted(faults)}; its sha256 is the registered one, so the release "
            "itself is faulty",
            "Release it again, or use another weight",
            file,
        )
    asked = {name: value for name, value in kwargs.items() if name not in _NOT_LAYERS}
    if asked == weight.model_args:
        return True
    wanted = _layers(cfg, asked).keys()
    if wanted == found.keys():
        return True
    without_weights = {name.removeprefix("fc_") for name in wanted} - {name.removeprefix("fc_") for name in found}
    unused = {name.removeprefix("fc_") for name in found} - {name.removeprefix("fc_") for name in wanted}
    if without_weights or unused:
        trained = weight.model_args
        changed = [f"{name}={asked[name]!r}" for name in asked if name not in trained or asked[name] != trained[name]]
        raise ValueError(
            f"{weight.name} was not trained with {', '.join(changed)}: "
            f"{_counted({'without weights': without_weights, 'unused': unused})}. "
            "Leave that out, or build with pretrained=False."
        )
    return False


def _layers(cfg: PretrainedCfg, model_args: Mapping[str, Any]) -> dict[str, _Kind]:
    """Name and kind of every tensor of a headless 3-channel network, found without allocating it."""
    with torch.device("meta"):
        model = model_entrypoint(str(cfg.architecture))(pretrained_cfg=cfg, num_classes=0, in_chans=3, **model_args)
        return _kinds(model.state_dict())


def _kinds(tensors: Mapping[str, torch.Tensor]) -> dict[str, _Kind]:
    return {name: _Kind(tuple(tensor.shape), tensor.is_floating_point()) for name, tensor in tensors.items()}


def _counted(faults: Mapping[str, set[str]]) -> str:
    """For example `2 missing (bn1.weight, fc.bias), 1 unexpected (x)`; at most three names a kind."""
    return ", ".join(
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in faults.items()
        if names
    )
