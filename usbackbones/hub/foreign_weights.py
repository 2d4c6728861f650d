"""Weights of other people, from a folder or the Hub, without a silent gap and without waiting for a dead network.

timm loads non-strictly as soon as the number of classes differs, and says nothing of layers that a file lacks; and it
asks the Hub six times, for 24 seconds, before it gives up. Here a folder is accounted for by names, what the Hugging
Face cache holds needs no request, and what it does not hold is refused at once where the Hub is out of reach.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from safetensors import safe_open
from torch import nn

from usbackbones.hub.errors import BackboneError, WeightsUnavailable
from usbackbones.hub.reachability import why_unreachable
from usbackbones.hub.zoo import FILE

CONFIG = "config.json"


def folder_of(name: str) -> Path:
    """The folder of a `local-dir:` name.

    Raises:
        BackboneError: if it is no timm folder.
    """
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if not folder.is_dir():
        raise BackboneError(f"{name} could not be loaded: there is no such folder")
    if not (folder / CONFIG).is_file():
        raise BackboneError(f"{name} could not be loaded: no timm folder there, it lacks a {CONFIG}")
    return folder


def folder_of_hub(name: str) -> Path:
    """The folder in the Hugging Face cache of a `hf-hub:OWNER/NAME[@REVISION]` name, downloaded if it is not there.

    Only config.json and model.safetensors are asked for, never a pickle.

    Raises:
        WeightsUnavailable: if it is not in the cache and the Hub is out of reach.
        BackboneError: if the name is none, or the repository holds no model.safetensors.
        OSError: whatever huggingface_hub raises for a repository that is not there or refuses.
    """
    repository, _, revision = name.removeprefix("hf-hub:").partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise BackboneError(f"{name} names no repository: write hf-hub:OWNER/NAME")
    wanted = {file: try_to_load_from_cache(repository, file, revision=revision or None) for file in (CONFIG, FILE)}
    found = [Path(path) for path in wanted.values() if isinstance(path, str)]
    if len(found) == len(wanted):
        return found[0].parent
    refuse_unreachable(name, constants.ENDPOINT)
    folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=[CONFIG, FILE]))
    if not (folder / FILE).is_file():
        raise BackboneError(f"{name} could not be loaded: the repository holds no {FILE}, and pickles are not read")
    return folder


def overlay_for(name: str) -> dict[str, Any]:
    """Where timm is to look for the weight of one of its own names: an overlay of its cfg, empty if it is to ask.

    Raises:
        WeightsUnavailable: if the weight is not on this machine, and the server that has it is out of reach.
    """
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.has_weights:
        return {}
    if cfg.hf_hub_id:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        cached = try_to_load_from_cache(repository, FILE, revision=revision or None)
        # A weight that timm reads by rules of its own has to come from where timm expects it.
        if isinstance(cached, str) and cfg.custom_load != "hf" and cfg.hf_hub_filename in (None, FILE):
            return {"file": cached, "custom_load": False}
        if not isinstance(try_to_load_from_cache(repository, cfg.hf_hub_filename or FILE), str):
            refuse_unreachable(name, constants.ENDPOINT)
    elif cfg.url and not (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(str(cfg.url)).path).name).is_file():
        refuse_unreachable(name, str(cfg.url))
    return {}


def refuse_unreachable(name: str, url: str) -> None:
    """Refuse at once what only a server has that is out of reach.

    Raises:
        WeightsUnavailable: saying why.
    """
    reason = f"{urlsplit(url).hostname} is not reached ({{}})"
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE forbids to ask the network"
    elif fault := why_unreachable(url):
        reason = reason.format(fault)
    else:
        return
    raise WeightsUnavailable(
        f"{name} could not be loaded: it is not on this machine, and {reason}. Fetch it where there is a network "
        "(HF_HOME names the cache), or use local-dir:FOLDER."
    )


def account_for(folder: Path, network: nn.Module) -> None:
    """Refuse a folder that does not hold exactly the tensors of the network that was built from it.

    Args:
        folder: a timm folder; one without model.safetensors is left to timm, which loads strictly or not at all.
        network: built from it; its classifier, and one in the file, may differ.

    Raises:
        BackboneError: naming tensors that are missing or unused.
    """
    if not (folder / FILE).is_file():
        raise BackboneError(f"local-dir:{folder} could not be loaded: it lacks a {FILE}, and pickles are not read")
    with safe_open(folder / FILE, "pt") as file:
        stored = set(file.keys())
    classifier: Any = network.pretrained_cfg["classifier"] or ()  # type: ignore[index]
    heads = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    built = {key for key in network.state_dict() if not key.startswith(heads)}
    stored = {key for key in stored if not key.startswith(heads)}
    faults = [
        f"{len(keys)} tensors {kind} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in (("are missing", built - stored), ("have no place in the network", stored - built))
        if keys
    ]
    if faults:
        raise BackboneError(
            f"local-dir:{folder} could not be loaded: {FILE} is not the network of {CONFIG}, {' and '.join(faults)}"
        )
