"""From `zoo.json` to timm's registry, and the name `usbackbones/<arch>.<tag>`.

timm knows our models as `us<arch>.<tag>`, announced through its public functions only. Since 1.0.29 it refuses a
name with a slash before any registry is asked, and offers no hook; `install` therefore replaces the one function
that parses names. Other owners' names go to timm's own parser and stay refused.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import timm
from timm.models import (
    DefaultCfg,
    PretrainedCfg,
    generate_default_cfgs,
    is_model,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)

from usbackbones.hub.errors import UnknownModel
from usbackbones.hub.zoo import FILE, Input, Weight, ZooError, read_zoo

OWNER = "usbackbones/"


# timm looks for this dictionary in the module that an entrypoint names as its own: usbackbones/__init__.py imports it.
default_cfgs: dict[str, DefaultCfg] = {}
_weights: dict[str, Weight] = {}
_defaults: list[str] = []  # the default of each zoo, the newest last
_successors: dict[str, str] = {}  # names that were removed, and what took their place


def register(zoo: Mapping[str, Any] | str | Path) -> list[str]:
    """Make the weights of a zoo known to timm and to every function of this package.

    A name that is registered already is replaced; the zoo's default, if it has one, becomes the default.
    Registering the same zoo twice changes nothing.

    Args:
        zoo: the content of a zoo file, or the path of one; beside the file at a path, `<name>/model.safetensors`
            is looked for too, so a folder of private releases is used by this one call.

    Returns:
        The names of its weights, `<arch>.<tag>`.

    Raises:
        ZooError: if it is no zoo, or an entry is incomplete or wrong or names an architecture that this package has
            no entrypoint for. Then none of it is registered.
        OSError: if there is a path and no readable file at it.
    """
    new, default, successors = read_zoo(zoo)
    for name, read in new.items():
        if read.arch not in architectures():
            raise ZooError(f"{name}: no entrypoint for {read.arch!r}; there is one for {', '.join(architectures())}")
    _weights.update(new)
    _successors.update(successors)
    if default is not None and default not in _defaults:
        _defaults.append(default)
    for arch in sorted({weight.arch for weight in new.values()}):
        _announce(model_entrypoint(f"us{arch}"))
    return list(new)


def install(entrypoints: Mapping[str, Callable[..., Any]]) -> bool:
    """Announce our entrypoints, named `us<arch>`, to timm and install the alias.

    Returns:
        True if `timm.create_model("usbackbones/...")` works with this timm; if not, a warning has said so.
    """
    for entrypoint in entrypoints.values():
        _announce(entrypoint)
    installed = _install_alias()
    if not installed:
        warnings.warn(
            f"timm {timm.__version__} has changed how it parses names, so timm.create_model('{OWNER}<arch>.<tag>') "
            "does not work. Write timm.create_model('us<arch>.<tag>'), or install an earlier timm.",
            stacklevel=3,
        )
    return installed


def architectures() -> list[str]:
    """Names, timm's own, of the architectures that have an entrypoint of ours."""
    return [name.removeprefix("us") for name in timm.list_models(module="usbackbones")]


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the registered weights, `<arch>.<tag>`, that match a shell pattern such as `resnet*`, sorted."""
    return sorted(name for name in _weights if fnmatch(name, pattern))


def get_weight(name: str) -> Weight:
    """What is known of a weight: its input, licence, hash and place, and `entry`, its whole entry in the zoo.

    Args:
        name: `<arch>.<tag>`, or `<arch>` for our default weight of it; with or without "usbackbones/".

    Raises:
        UnknownModel: with the closest name and the list of all.
    """
    name = name.removeprefix(OWNER)
    arch, _, tag = name.partition(".")
    check(name)
    found = find(arch, tag or default_cfgs[f"us{arch}"].tags[0])
    if found is None:
        raise UnknownModel(f"No weights are published for {arch}. {_what_exists()}")
    return found


def find(arch: str, tag: str | None) -> Weight | None:
    """The weight of an architecture under a tag, or None."""
    return _weights.get(f"{arch}.{tag}")


def default_of(arch: str) -> str | None:
    """Name of our default weight of an architecture; None when it has no weight."""
    tags = default_cfgs[f"us{arch}"].tags
    return f"{arch}.{tags[0]}" if find(arch, tags[0]) else None


def default_name() -> str | None:
    """Name of the weight to use when nobody names one; None when there is none."""
    return _defaults[-1] if _defaults else None


def check(name: str) -> None:
    """Refuse an `<arch>` or `<arch>.<tag>` that does not exist.

    Raises:
        UnknownModel: with the successor of a removed name or the closest name, and the list of all.
    """
    known = [*architectures(), *_weights]
    if name in _successors and name not in _weights:
        successor = _successors[name]
        raise UnknownModel(f"'{OWNER}{name}' was removed; '{OWNER}{successor}' takes its place. {_what_exists()}")
    if name not in known:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{OWNER}{close[0]}'?" if close else ""
        raise UnknownModel(f"Unknown model '{OWNER}{name}'.{hint} {_what_exists()}")


def _what_exists() -> str:
    return f"Weights: {', '.join(list_weights()) or 'none'}. Architectures: {', '.join(architectures())}."


def _announce(entrypoint: Callable[..., Any]) -> None:
    """(Re-)register an entrypoint with timm, with the weights known now."""
    ours = entrypoint.__name__
    arch = ours.removeprefix("us")
    weights = [weight for weight in _weights.values() if weight.arch == arch]
    # To timm the first one is the default of the architecture: the newest default, or else the first of all.
    rank = {name: position for position, name in enumerate(_defaults)}
    weights.sort(key=lambda weight: rank.get(weight.name, -1), reverse=True)
    cfgs: dict[str, dict[str, Any] | PretrainedCfg] = {f"{ours}.{w.tag}": _cfg(arch, w) for w in weights}
    default_cfgs.update(generate_default_cfgs(cfgs or {ours: _cfg(arch, None)}))
    with warnings.catch_warnings():
        # Replacing our own registration is the purpose (a new weight, or a reload); somebody else's must be heard.
        if is_model(ours) and model_entrypoint(ours).__module__ == entrypoint.__module__:
            warnings.filterwarnings("ignore", message=f"Overwriting {ours} in registry")
        register_model(entrypoint)


def _cfg(arch: str, weight: Weight | None) -> PretrainedCfg:
    """Describe a weight to timm. What belongs to the layers is copied from timm's own cfg of the architecture."""
    layers = resolve_pretrained_cfg(arch)
    seen = weight.input if weight else Input()
    cfg = PretrainedCfg(
        num_classes=0,
        input_size=(3, seen.size, seen.size),
        mean=(seen.mean,) * 3,
        std=(seen.std,) * 3,
        interpolation=seen.interpolation,
        crop_mode=seen.crop_mode,
        crop_pct=seen.crop_pct,
        fixed_input_size=layers.fixed_input_size,
        pool_size=layers.pool_size and tuple(n * seen.size // layers.input_size[-1] for n in layers.pool_size),
        first_conv=layers.first_conv,
        classifier=layers.classifier,
    )
    if weight is not None:
        cfg.hf_hub_id = weight.pinned_hub_id
        cfg.hf_hub_filename = FILE
        cfg.license = weight.licence
    return cfg


class _Alias:
    """timm's `parse_model_name` for everybody else's names; ours become `us<arch>.<tag>`."""

    def __init__(self, original: Callable[[str], tuple[str | None, str]]) -> None:
        self.original = original

    def __call__(self, model_name: str) -> tuple[str | None, str]:
        if not model_name.startswith(OWNER):
            return self.original(model_name)
        name = model_name.removeprefix(OWNER)
        check(name)
        return None, f"us{name}"


def _install_alias() -> bool:
    """Put the alias where `timm.create_model` looks names up, and prove by a call that it is used."""
    factory = sys.modules[timm.create_model.__module__]
    current = getattr(factory, "parse_model_name", None)
    if current is None:
        return False
    # A second installation (a reload) replaces the first one instead of wrapping it.
    vars(factory)["parse_model_name"] = _Alias(getattr(current, "original", current))
    try:
        timm.create_model(f"{OWNER}?")
    except UnknownModel:
        return True
    except (RuntimeError, ValueError):
        pass
    return False
