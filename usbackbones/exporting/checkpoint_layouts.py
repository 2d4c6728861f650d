"""Layouts of the official checkpoints of others, and the network and input that each of them needs.

The four methods' own releases hold a ResNet whose parts are numbered (`features.0` is the first convolution); masked
autoencoders hold a ViT and a decoder. A `Layout` says how a key becomes timm's, which keys belong to a head or a
pyramid, and which are known to be of no use. A key that is none of these is not guessed at.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

Part = tuple[str, str]
"""Where a key goes: ("backbone" | "pyramid" | "heads" | "unused", its name there)."""
Rule = tuple[str, str, str]
"""(pattern of the whole key, part, name there with the pattern's groups)."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Layout:
    """One kind of official checkpoint.

    Attributes:
        title: of the work, with its year.
        url: where the authors' code and file are.
        licence: of the weights as their source states it.
        arch: timm's name; "resnet" is told to be 18 or 50 by its tensors.
        rules: tried in order; the first that matches a key decides.
        model_args: what `timm.create_model` needs besides the name.
        size: input side, pixels.
        mean: of each channel, on the 0..1 scale.
        std: of each channel.
        interpolation: how the authors resize.
        note: what a user must know.
    """

    title: str
    url: str
    licence: str
    arch: str
    rules: tuple[Rule, ...]
    size: int = 224
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.25,) * 3
    interpolation: str = "bilinear"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def place(self, key: str) -> Part | None:
        """Where a key goes, or None if the layout does not know it."""
        return place(self.rules, key)


def place(rules: tuple[Rule, ...], key: str) -> Part | None:
    """Where the first rule that matches the whole key sends it, or None."""
    for pattern, part, name in rules:
        match = re.fullmatch(pattern, key)
        if match:
            return part, match.expand(name)
    return None


# Sequential(conv1, bn1, relu, maxpool, layer1 .. layer4, pool): 2, 3 and 8 hold no tensor.
_NUMBERED: tuple[Rule, ...] = (
    (r"features\.0\.(weight)", "backbone", r"conv1.\1"),
    (r"features\.1\.(\w+)", "backbone", r"bn1.\1"),
    *((rf"features\.{number}\.(.+)", "backbone", rf"layer{number - 3}.\1") for number in (4, 5, 6, 7)),
)
_COUNTERS: tuple[Rule, ...] = ((r".*total_(ops|params)", "unused", "profiler"),)
_HEADS: tuple[Rule, ...] = ((r"((?:l1|l2|linear|fc|fc1|fc2|classifier[\w.]*)\.(?:weight|bias))", "heads", r"\1"),)
_HICO: tuple[Rule, ...] = (
    (r"features\.R(?:18|50)\.fc\.\w+", "unused", "ImageNet's classifier"),
    (r"features\.R(?:18|50)\.((?:conv1|bn1|layer[1-4])\..+)", "backbone", r"\1"),
    (r"features\.toplayer\.(weight|bias)", "pyramid", r"lateral.p5.\1"),
    *((rf"features\.latlayer{n}\.(weight|bias)", "pyramid", rf"lateral.p{5 - n}.\1") for n in (1, 2, 3)),
    *((rf"features\.smooth{n}\.(weight|bias)", "pyramid", rf"smooth.p{5 - n}.\1") for n in (1, 2, 3)),
    (r"((?:l2|l3|l4|l5|lf|l22|l33|l44|l55|fc)\.(?:weight|bias))", "heads", r"\1"),
)
_VIT_KEY = r"((?:cls_token|pos_embed|patch_embed\.proj\.\w+|blocks\.\d+\..+|norm\.\w+))"
_MAE: tuple[Rule, ...] = (
    (r"(mask_token|decoder_.+)", "unused", "decoder"),
    (_VIT_KEY, "backbone", r"\1"),
)

LAYOUTS: dict[str, Layout] = {
    "uscl": Layout(
        "USCL (Chen et al., MICCAI 2021)",
        "https://github.com/983632847/USCL",
        "MIT",
        "resnet",
        (*_COUNTERS, *_NUMBERED, *_HEADS),
    ),
    "meta-uscl": Layout(
        "Meta-USCL (Chen et al., IEEE TMI 2022)",
        "https://github.com/Schuture/Meta-USCL",
        "not stated (README says MIT)",
        "resnet",
        (*_COUNTERS, *_NUMBERED, *_HEADS),
        mean=(0.18,) * 3,
        std=(0.24,) * 3,
        note="trained at 64 or at 224 px: pass size=64 for resnet18_64",
    ),
    "hico": Layout(
        "HiCo (Zhang et al., ACCV 2022)",
        "https://github.com/983632847/HiCo",
        "GPL-3.0",
        "resnet",
        (*_COUNTERS, *_HICO),
    ),
    "awcl": Layout(
        "AWCL (Fu et al., 2022)",
        "https://github.com/JianboJiao/AWCL",
        "not stated",
        "resnet",
        (*_COUNTERS, *_NUMBERED, *_HEADS),
        size=227,
        mean=IMAGENET[0],
        std=IMAGENET[1],
    ),
    "usf-mae": Layout(
        "USF-MAE (2026)",
        "https://github.com/Yusufii9/USF-MAE",
        "MIT",
        "vit_base_patch16_224",
        _MAE,
        mean=IMAGENET[0],
        std=IMAGENET[1],
        interpolation="nearest",
    ),
    "ultrafedfm": Layout(
        "UltraFedFM (npj Digital Medicine 2025)",
        "https://github.com/yuncheng97/UltraFedFM",
        "Apache-2.0",
        "vit_base_patch16_224",
        _MAE,
        mean=IMAGENET[0],
        std=IMAGENET[1],
        note="normalised as ImageNet, as masked autoencoders are; the authors' file does not say",
    ),
    "tinyusfm": Layout(
        "TinyUSFM (IEEE JBHI 2026)",
        "https://github.com/MacDunno/TinyUSFM",
        "Apache-2.0 by its README; distilled from a CC BY-NC teacher",
        "vit_tiny_patch16_224",
        ((rf"(?:model\.)?{_VIT_KEY}", "backbone", r"\1"), (r"(?:model\.)?((?:head|fc)\.\w+)", "heads", r"\1")),
        mean=IMAGENET[0],
        std=IMAGENET[1],
        # timm's has 3 heads of 64 with tensors of the same shapes, and would compute another function without a word.
        model_args={"num_heads": 12},
    ),
}


def ultrasound_layouts(keys: Collection[str]) -> list[str]:
    """Layouts whose authors' files alone have such keys; of several, only their authors know which.

    The masked autoencoders and TinyUSFM name their tensors as everybody does, and are not among them.
    """
    if any(re.match(r"features\.R(?:18|50)\.conv1\.", key) for key in keys):
        return ["hico"]
    if not {"features.0.weight", "features.4.0.conv1.weight"} <= {*keys}:
        return []
    if "fc.weight" in keys and {"fc1.weight", "linear.weight"} & {*keys}:
        return ["uscl"]
    return ["uscl", "meta-uscl", "awcl"] if {"l1.weight", "l2.weight"} <= {*keys} else []


Sizes = Mapping[str, tuple[int, ...]]


def roles_of_heads(shapes: Sizes, features: int) -> dict[str, str]:
    """What each head is, told by its shape, since `l2` is a projection in one release and a pyramid's head in another.

    Args:
        shapes: of the weights, [out, in] by name, biases left out.
        features: width of the backbone's representation.

    Raises:
        ValueError: naming a head whose shape fits none.
    """
    kinds: tuple[tuple[str, Callable[[int, int], bool]], ...] = (
        ("hidden layer on the representation", lambda out, into: into == features == out),
        ("projection of the representation", lambda out, into: into == features and out in (128, 256)),
        ("second layer of a level's projection", lambda out, into: into == out == 256),
        (
            "projection of a flattened level of the pyramid",
            lambda out, into: out == 256 and into % 256 == 0 < into - 256,
        ),
        ("classifier of the projection", lambda out, into: into in (128, 256) and out < 128),
        ("classifier of the representation", lambda out, into: into == features and out < 128),
    )
    roles = {}
    for name, shape in shapes.items():
        fitting = [role for role, fits in kinds if len(shape) == 2 and fits(*shape)]
        if not fitting:
            raise ValueError(f"the head {name} has shape {list(shape)}, which is none that this layout has")
        roles[name] = fitting[0]
    return roles
