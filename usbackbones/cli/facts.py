"""Facts that `info` shows of any name, from the files of its folder or timm's records; no weights are loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from usbackbones._files import sha256_of
from usbackbones._words import plural
from usbackbones.hub.backbone import LOCAL, PLAIN_MEAN, PLAIN_STD, RANDOM, RUN, full_name
from usbackbones.hub.errors import BackboneError
from usbackbones.hub.foreign_weights import folder_of, folder_of_hub
from usbackbones.hub.licensing import license_of
from usbackbones.hub.pretraining_run import RunError, input_of_run, read_json
from usbackbones.hub.zoo import FILE

Facts = dict[str, str]
SHOWN = 12
"""Names of classes at most; of more their number is enough."""


def facts_of(name: str) -> Facts:
    """Facts in the order in which a person reads them, for a name that `build_backbone` takes or a folder of `segment`.

    A Hub repository that is not in the cache is downloaded; the weights of a timm name are not.

    Raises:
        BackboneError, RunError, WeightsError: if there is no such model.
    """
    full = full_name(name)
    if full.startswith(RUN):
        return _of_run(full, Path(full.removeprefix(RUN)))
    if full.startswith(RANDOM):
        arch = full.removeprefix(RANDOM)
        facts = _network(arch, {})  # refuses an architecture that timm lacks
        cfg = timm.get_pretrained_cfg(arch)
        plain = {"input_size": cfg.input_size if cfg else (3, 224, 224), "mean": PLAIN_MEAN, "std": PLAIN_STD}
        return facts | _input(plain) | {"weights": "random, by a seed"}
    if full.startswith("timm/") or ":" not in full:
        return _of_timm(full.removeprefix("timm/"))
    local = full.startswith(LOCAL)
    folder = Path(full.removeprefix(LOCAL)).expanduser() if local else folder_of_hub(full)
    if not (folder / FILE).is_file() and not (folder / "config.json").is_file():
        folder_of(full)  # refuses it
    if not (folder / FILE).is_file():
        raise BackboneError(f"{full}: it lacks a {FILE}: its training has not finished, or it is no folder of a model")
    own = _segmenter(folder) if (folder / "model.json").is_file() else _of_folder(full, folder)
    return own | {"file": f"{folder / FILE}, {_size(folder / FILE)}", "sha256": sha256_of(folder / FILE)}


def _of_folder(full: str, folder: Path) -> Facts:
    """Of a timm folder, which `finetune`, `pack`, `convert` and timm write."""
    config = read_json(folder / "config.json")
    cfg, told = config.get("pretrained_cfg", config), config.get("usbackbones", {})
    classes, count = config.get("label_names"), config.get("num_classes", cfg.get("num_classes", 0))
    head = "none"
    if count:
        head = f"{count} classes" + (f": {', '.join(classes)}" if classes and len(classes) <= SHOWN else "")
    if told.get("task") == "number":
        head = f"a number: {told.get('label') or 'not named'}" + (f", {told['unit']}" if told.get("unit") else "")
    facts = _network(config["architecture"], config.get("model_args") or {})
    facts |= {"made of": str(cfg.get("description") or "not stated"), "head": head} | _input(cfg)
    facts |= {"threshold": f"{told['threshold']:.3f} for {classes[1]}"} if classes and "threshold" in told else {}
    facts |= {"cleaning": "tuned on clean frames"} if told.get("clean") else {}
    return facts | _licenses(full)


def _segmenter(folder: Path) -> Facts:
    settings = read_json(folder / "model.json")
    spec, cfg = settings["spec"], settings["pretrained_cfg"]
    facts = {"architecture": f"{'U-Net' if spec['head'] == 'unet' else 'Mask R-CNN'} on {settings['model']}"}
    facts |= {"structures": ", ".join(spec["classes"])} | _input(cfg)
    return facts | {"license of the weights": str(settings.get("license") or "not stated")}


def _of_run(full: str, run: Path) -> Facts:
    """Of a run of training.pretrain, finished or not."""
    recipe, corpus = read_json(run / "recipe.json"), read_json(run / "corpus.json")
    if not (run / "checkpoint.pt").is_file():
        raise RunError(f"{run / 'checkpoint.pt'} is missing: {run} is not a finished run of training.pretrain")
    return (
        _network(recipe["arch"], recipe["model_args"])
        | {"method": recipe["method"]["name"]}
        | {"steps": f"{recipe['steps']}, {'finished' if (run / 'summary.json').is_file() else 'not finished'}"}
        | {"corpus": f"{plural(len(corpus['clips']), 'clip')} of {plural(len(corpus['groups']), 'group')}"}
        | _input(input_of_run(recipe))
        | _licenses(full)
        | {"file": f"{run / 'checkpoint.pt'}, {_size(run / 'checkpoint.pt')}"}
    )


def _of_timm(name: str) -> Facts:
    cfg = timm.get_pretrained_cfg(name)
    arch = name.partition(".")[0]
    facts = _network(arch, {})
    if not cfg or not cfg.has_weights:
        return facts | {"weights": f"timm has none of this name; {RANDOM}{arch} is untrained"}
    facts |= {"head": f"{cfg.num_classes} classes" if cfg.num_classes else "none"} | _input(cfg.to_dict())
    facts |= _licenses(f"timm/{name}")
    return facts | {"weights": f"timm's, from {cfg.hf_hub_id or cfg.url}; fetched when first used"}


def _network(arch: str, model_args: Mapping[str, Any]) -> Facts:
    """Size of a network, which is built without memory for its tensors."""
    kept = {key: value for key, value in model_args.items() if key not in ("num_classes", "in_chans")}
    with torch.device("meta"):
        network: Any = timm.create_model(arch, num_classes=0, **kept)
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"architecture": f"{arch}, {network.num_features} features, {count / 1e6:.1f} million parameters"}


def _input(cfg: Mapping[str, Any]) -> Facts:
    channels, height, width = cfg["input_size"]
    mean, std = ([round(float(value), 4) for value in cfg[key]] for key in ("mean", "std"))
    same = len({*mean}) == len({*std}) == 1
    seen = "one gray channel or three" if same else f"{channels} channels"
    return {"input": f"{height} x {width} px, {seen}; mean {mean[0] if same else mean}, std {std[0] if same else std}"}


def _licenses(full: str) -> Facts:
    license_ = license_of(full)
    told = str(license_ or "not stated; commands that train on it ask for it, --license NAME")
    data = {"licenses of the data": "; ".join(license_.data)} if license_ and license_.data else {}
    return {"license of the weights": told} | data


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"
