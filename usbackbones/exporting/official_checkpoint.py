"""Plan the conversion of an official checkpoint whose layout is known, see `checkpoint_layouts`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from usbackbones.exporting.checkpoint_layouts import LAYOUTS, roles_of_heads
from usbackbones.exporting.network_by_shapes import skeleton
from usbackbones.exporting.plan import Answers, Plan, account, mean_and_std, single
from usbackbones.exporting.read_checkpoint import ConvertError, contents, shown

_WRAPPERS = ("state_dict", "weight", "model_state_dict", "model")


def official_plan(content: Any, source: str, answers: Answers, drop: tuple[str, ...]) -> Plan:
    """A checkpoint of a known layout."""
    layout = LAYOUTS[source]
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "pyramid": {}, "heads": {}, "unused": {}}
    strangers = []
    for key, value in _unwrapped(content).items():
        place = ("unused", key) if key.startswith(drop) else layout.place(key)
        if place is None:
            strangers.append(key)
        else:
            part, name = place
            parts[part][key if part == "unused" else name] = single(value)
    if strangers:
        raise ConvertError(
            f"{len(strangers)} keys are not of {source}'s layout: {shown(strangers)}. "
            "Is --from right? Keys that the backbone can do without are left out with --drop PREFIX."
        )
    backbone = parts["backbone"]
    arch = layout.arch
    if arch == "resnet":
        arch = "resnet50" if "layer1.0.conv3.weight" in backbone else "resnet18"
    network = skeleton(arch, layout.model_args)
    account(f"{source}'s backbone", backbone, {name: tuple(t.shape) for name, t in network.state_dict().items()})
    weights = {name: tuple(value.shape) for name, value in parts["heads"].items() if name.endswith(".weight")}
    try:
        roles = roles_of_heads(weights, int(network.num_features))  # type: ignore[arg-type]
    except ValueError as error:
        raise ConvertError(f"{error}; leave it out with --drop") from error
    if answers.mean or answers.std:
        mean, std = mean_and_std(answers, 3)
        layout = replace(layout, mean=mean, std=std)
    layout = replace(layout, licence=answers.license_name or layout.licence)
    tag, told = source.replace("-", "_"), f"{layout.title}, converted from the authors' {{}}"
    return Plan(layout, arch, parts, roles, tag, told, answers.size or layout.size)


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """The state dict in the container that the authors' script made."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ConvertError(f"it holds no state dict but {contents(content)}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
