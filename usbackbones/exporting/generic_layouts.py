"""Find the encoder in a checkpoint of any common pretraining: by its keys, whatever prefixes and containers it has.

MoCo (1 to 3), SimCLR, DINO, MAE, BYOL, Lightning, torchvision and timm name a ResNet or a ViT in one of four ways. An
encoder is found by its own names; what stands before them is its prefix, and every other key has to be a head, the
second network of a pair, or a buffer of the loss. A checkpoint that could be read in two ways is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile

from torch import Tensor

from usbackbones.exporting.checkpoint_layouts import Part, Rule, place
from usbackbones.exporting.read_checkpoint import ConvertError, shown

_RESNET: tuple[Rule, ...] = ((r"((?:conv1|bn1|layer[1-4])\..+)", "backbone", r"\1"),)
_NUMBERED: tuple[Rule, ...] = (
    (r"0\.(weight)", "backbone", r"conv1.\1"),
    (r"1\.(\w+)", "backbone", r"bn1.\1"),
    *((rf"{number}\.(.+)", "backbone", rf"layer{number - 3}.\1") for number in (4, 5, 6, 7)),
)
_VIT: tuple[Rule, ...] = (
    (r"(mask_token|decoder_.+)", "unused", "decoder"),
    (r"((?:cls_token|reg_token|pos_embed|patch_embed\.proj\.\w+|blocks\.\d+\..+))", "backbone", r"\1"),
    (r"((?:norm|fc_norm|norm_pre)\.\w+)", "backbone", r"\1"),
)
_LAYER = r"encoder\.layers\.encoder_layer_(\d+)"
_TORCHVISION_VIT: tuple[Rule, ...] = (
    (r"class_token", "backbone", "cls_token"),
    (r"encoder\.pos_embedding", "backbone", "pos_embed"),
    (r"conv_proj\.(\w+)", "backbone", r"patch_embed.proj.\1"),
    (r"encoder\.ln\.(\w+)", "backbone", r"norm.\1"),
    (rf"{_LAYER}\.ln_([12])\.(\w+)", "backbone", r"blocks.\1.norm\2.\3"),
    (rf"{_LAYER}\.self_attention\.in_proj_(\w+)", "backbone", r"blocks.\1.attn.qkv.\2"),
    (rf"{_LAYER}\.self_attention\.out_proj\.(\w+)", "backbone", r"blocks.\1.attn.proj.\2"),
    (rf"{_LAYER}\.mlp\.(?:0|linear_1)\.(\w+)", "backbone", r"blocks.\1.mlp.fc1.\2"),
    (rf"{_LAYER}\.mlp\.(?:3|linear_2)\.(\w+)", "backbone", r"blocks.\1.mlp.fc2.\2"),
)

Naming = tuple[str, str, str, tuple[Rule, ...]]
"""(name of the network's kind, a key that each of it has, another one, the rules of its keys)."""
_NAMINGS: tuple[Naming, ...] = (
    ("ResNet", "conv1.weight", "layer1.0.conv1.weight", _RESNET),
    ("ResNet of a stem in parts", "conv1.0.weight", "layer1.0.conv1.weight", _RESNET),
    ("ResNet as a numbered Sequential", "0.weight", "4.0.conv1.weight", _NUMBERED),
    ("ViT", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", _VIT),
    (
        "ViT as torchvision names it",
        "conv_proj.weight",
        "encoder.layers.encoder_layer_0.ln_1.weight",
        _TORCHVISION_VIT,
    ),
)
_PAIRS = (
    ("encoder_q", "encoder_k", "MoCo"),
    ("base_encoder", "momentum_encoder", "MoCo v3"),
    ("teacher", "student", "DINO"),
    ("online", "target", "BYOL"),
    ("state_dict_ema", "state_dict", ""),
    ("backbone", "momentum_backbone", ""),
    ("backbone", "backbone_momentum", ""),
    ("encoder", "momentum_encoder", ""),
)
"""(the network of a pair that is taken, the other, the method whose names they are)."""
_HEAD = re.compile(
    r"heads?|fc\d?|classif\w*|proj\w*|predict\w*|prototypes?|linear\d?|mlp|last_layer|l[12]"
    r"|(?:online|target|momentum|student|teacher)_(?:head|classif|proj|predict)\w*"
)
_BUFFER = re.compile(
    r"(?:queue|memory_bank|center|criterion|loss|temperature|logit_scale)\w*|\w+_(?:queue|ptr|loss|bank)"
)
_COUNTER = re.compile(r"(?:.*\.)?total_(?:ops|params)")


@dataclass(frozen=True)
class Encoder:
    """The encoder of a checkpoint.

    Attributes:
        title: the method and the kind of its network, for a person.
        method: "MoCo", "MoCo v3", "SimCLR", "DINO", "MAE", "BYOL", "torchvision" or "", where nothing tells it.
        prefix: before its names in the file.
        parts: {"backbone": by timm's names, "heads" and "unused": by the file's}.
        notes: what was chosen and what was passed over, a line each.
    """

    title: str
    method: str
    prefix: str
    parts: dict[str, dict[str, Tensor]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """A place at which all names of a network begin: a state dict and a prefix in it."""

    container: str
    prefix: str
    naming: Naming = field(repr=False)

    @property
    def full(self) -> str:
        """Its whole place without the wrappers that say nothing."""
        whole = f"{self.container}.{self.prefix}" if self.container else self.prefix
        return re.sub(r"\b(?:module|_orig_mod)\.", "", whole)


def find_encoder(dicts: Mapping[str, Mapping[str, Tensor]], drop: tuple[str, ...] = ()) -> Encoder:
    """The one encoder in the state dicts of a checkpoint; `drop` are prefixes of keys, or names of dicts, to leave out.

    Raises:
        ConvertError: if there is none, or more than one and no known pair, or a key that is no part of one.
    """
    kept = {
        container: {key: value for key, value in tensors.items() if not key.startswith(drop)}
        for container, tensors in dicts.items()
        if not f"{container}.".startswith(drop)
    }
    found = [candidate for container, tensors in kept.items() for candidate in _candidates(container, tensors)]
    if not found:
        keys = shown(key for tensors in kept.values() for key in tensors)
        raise ConvertError(f"no ResNet and no ViT of timm's or torchvision's names is in it; its tensors are {keys}")
    chosen, other, method = _choose(found)
    tensors = kept[chosen.container]
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "heads": {}, "unused": {}}
    strangers = []
    for key, value in tensors.items():
        part, name = _place(key, chosen, other) or ("", "")
        if part:
            parts[part][name if part == "backbone" else key] = value
        else:
            strangers.append(key)
    if strangers:
        raise ConvertError(
            f"{len(strangers)} keys are neither of the {chosen.naming[0]} nor a known head or buffer: "
            f"{shown(strangers)}; leave out what the backbone can do without, --drop PREFIX"
        )
    dropped = {key: value for key, value in dicts[chosen.container].items() if key not in tensors}
    parts["unused"] |= dropped
    method = method or ("torchvision" if chosen.naming[3] is _TORCHVISION_VIT else _method(parts, tensors))
    notes = []
    if other:
        own = chosen.prefix if chosen.container == other.container else f"{chosen.container}."
        names = (one.full.rstrip(".") for one in (chosen, other))
        notes.append("{} is taken, not {}; ".format(*names) + f"for the other, --drop {own}")
    if beside := sorted({where.split(".")[0] or "the top" for where in dicts if where != chosen.container}):
        notes.append(f"beside it in the file, not read: {shown(beside)}")
    title = f"{method or 'plain'} {chosen.naming[0]}" + (f", prefix {chosen.prefix}" if chosen.prefix else "")
    return Encoder(title, method, chosen.prefix, parts, tuple(notes))


def _candidates(container: str, tensors: Mapping[str, Tensor]) -> list[_Candidate]:
    """Every prefix in a state dict at which a network begins."""
    found = []
    for naming in _NAMINGS:
        _, first, second, _ = naming
        for key in tensors:
            prefix = key.removesuffix(second)
            if key.endswith(second) and (not prefix or prefix.endswith(".")) and prefix + first in tensors:
                found.append(_Candidate(container, prefix, naming))
    return found


def _choose(found: list[_Candidate]) -> tuple[_Candidate, _Candidate | None, str]:
    """The encoder, the other of its pair, and the method that names them so."""
    if len(found) == 1:
        only = found[0]
        return only, None, next((name for *words, name in _PAIRS[:4] if any(word in only.full for word in words)), "")
    if len(found) == 2:
        for taken, other, method in _PAIRS:
            for one, two in (found, found[::-1]):
                if taken in one.full and one.full.replace(taken, other, 1) == two.full:
                    return one, two, method
    places = shown(f"{one.container or 'top'}: {one.prefix or 'no prefix'}" for one in found)
    raise ConvertError(f"{len(found)} networks are in it ({places}); leave out all but one with --drop PREFIX")


def _place(key: str, chosen: _Candidate, other: _Candidate | None) -> Part | None:
    """Where a key of the chosen network's state dict goes."""
    if _COUNTER.fullmatch(key):
        return "unused", "profiler"
    if key.startswith(chosen.prefix):
        part = place(chosen.naming[3], key.removeprefix(chosen.prefix))
        if part:
            return part
    if other and other.container == chosen.container and key.startswith(_branch(other, chosen)):
        return "unused", "the other network"
    words = key.split(".")
    if key.startswith(chosen.prefix):
        words = words[chosen.prefix.count(".") :][:1]
    if any(_BUFFER.fullmatch(word) for word in words):
        return "unused", "buffer"
    return ("heads", key) if any(_HEAD.fullmatch(word) for word in words) else None


def _branch(other: _Candidate, chosen: _Candidate) -> str:
    """The prefix of all that belongs to the other network, its heads among it: up to where the two names part."""
    pairs = zip(other.prefix.split("."), chosen.prefix.split("."), strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return ".".join(other.prefix.split(".")[: same + 1]) + "."


def _method(parts: Mapping[str, Mapping[str, Tensor]], tensors: Mapping[str, Tensor]) -> str:
    """The method that the keys beside the encoder tell; "" where there is none but a classifier."""
    if any("decoder_" in key for key in tensors):
        return "MAE"
    words = {word for key in parts["heads"] for word in key.split(".")[:-1]}
    if any(word.startswith(("predict", "online_predict")) for word in words):
        return "BYOL"
    if any("momentum" in key for key in tensors):
        return "MoCo"
    layers = [key for key, value in parts["heads"].items() if value.ndim == 2]
    projects = any(re.match(r"(?:momentum_)?proj", word) for word in words)
    return "SimCLR" if projects or (len(layers) > 1 and any(".fc." in f".{key}" for key in layers)) else ""
