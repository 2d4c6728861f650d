"""The lung table: frozen features, kNN and linear probe, frames and clips, intervals over groups.

    python -m training.benchmark.lung usbackbones/resnet18.TAG random:resnet18 --data FOLDER

A MODEL is `usbackbones/ARCH.TAG`, `run:FOLDER` of training.pretrain, `local-dir:FOLDER`, any name that timm knows, or
`random:ARCH`, the mean over several random initialisations. The default judges on the locked test part: the probes are
fitted on the pretraining part, their penalty is chosen inside it, and the test labels are read once, by the scores.
Every other choice is made with `--part inner`, which cross-validates inside the pretraining part and never opens a test
clip. A backbone that was pretrained on those very clips looks too good there; to choose a recipe, pretrain without some
groups and judge on those, as `training.study` does.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal

import numpy as np
import sklearn
import timm
import torch
import tyro
from torch import nn
from tqdm import tqdm

from training.benchmark.protocol import LEVELS, PROBES, Protocol, judge, predict
from training.benchmark.tasks import lung_task
from training.published import backbone_of_run
from usbackbones.files import atomic_write

RANDOM = "random:"
RUN = "run:"

# How frames reach a random network when no pretrained one stands beside it to take this from.
PLAIN_INPUT: dict[str, Any] = {
    "input_size": (3, 128, 128),
    "mean": (0.5,) * 3,
    "std": (0.25,) * 3,
    "interpolation": "bilinear",
    "crop_mode": "squash",
    "crop_pct": 1.0,
}


def random_networks(arch: str, seeds: int = 5, **input_cfg: Any) -> list[nn.Module]:
    """Networks of one architecture before any training, seeds 0, 1, ...

    timm starts a ResNet with every residual branch scaled by zero, which leaves little more than its stem and is an
    easy row to beat. Here such norms are set to one, so that the whole untrained network takes part.

    Args:
        arch: timm's name.
        seeds: how many.
        input_cfg: fields of a timm pretrained_cfg; what is not given is taken from `PLAIN_INPUT`.
    """
    networks = []
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = timm.create_model(arch, pretrained=False, num_classes=0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                nn.init.ones_(module.weight)
        networks.append(with_input(network, **(PLAIN_INPUT | input_cfg)))
    return networks


def with_input(model: nn.Module, **input_cfg: Any) -> nn.Module:
    """The model with other input settings (fields of a timm pretrained_cfg) for its transform to follow."""
    network: Any = model
    network.pretrained_cfg = network.pretrained_cfg | input_cfg
    if "input_size" in input_cfg and hasattr(network, "set_input_size"):
        network.set_input_size(img_size=input_cfg["input_size"][-1])
    return model


def rows_of_networks(names: Iterable[str], size: int | None, seeds: int) -> dict[str, list[nn.Module] | str]:
    """The networks of each row, or why a row cannot be run: weights of others that cannot be fetched.

    Random networks are given the input settings of the first pretrained one, so that only the weights differ.
    """
    resized = {"input_size": (3, size, size)} if size else {}
    rows: dict[str, list[nn.Module] | str] = dict.fromkeys(names, "")
    like: dict[str, Any] = {}
    for name in (name for name in rows if not name.startswith(RANDOM)):
        try:
            network: Any = _pretrained(name)
        except OSError as error:
            if name.startswith(("local-dir:", "usbackbones/")):
                raise
            rows[name] = " ".join(str(error).split())
            continue
        rows[name] = [with_input(network, **resized)]
        like = like or {key: network.pretrained_cfg[key] for key in PLAIN_INPUT}
    for name in (name for name in rows if name.startswith(RANDOM)):
        rows[name] = random_networks(name.removeprefix(RANDOM), seeds, **(like | resized))
    return rows


def _pretrained(name: str) -> nn.Module:
    """The network of a row that is not random.

    Raises:
        OSError: if its weights cannot be had here.
    """
    if not name.startswith(RUN):
        return timm.create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0)
    if not Path(name.removeprefix(RUN), "summary.json").is_file():
        raise FileNotFoundError(f"{name.removeprefix(RUN)} holds no finished run: make it with training.pretrain")
    backbone, recipe = backbone_of_run(Path(name.removeprefix(RUN)))
    size = recipe["augment"]["size"]
    return with_input(
        backbone, **PLAIN_INPUT | {"input_size": (1, size, size), "mean": (recipe["mean"],), "std": (recipe["std"],)}
    )


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table with a line about what it stands on."""
    lines = [
        "| model | probe | frame bal. acc. | frame macro-F1 | clip bal. acc. | clip macro-F1 "
        "| frame bal. acc. − random | clip bal. acc. − random |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        if "not_run" in row:
            why = shorten(row["not_run"], 100, placeholder=" ...")
            lines.append(f"| {row['model']} | not run ({why}): `{row['command']}` | | | | | | |")
            continue
        for probe in PROBES:
            levels = row["results"][probe]
            cells = [levels[level][m] for level in LEVELS for m in ("balanced_accuracy", "macro_f1")]
            cells += [levels[level]["balanced_accuracy"].get("difference") for level in LEVELS]
            lines.append(f"| {row['model']} | {probe} | {' | '.join(_cell(cell) for cell in cells)} |")
    counts = {
        side: f"{n['clips']} clips of {n['groups']} groups ({n['frames']} frames)"
        for side, n in report["counts"].items()
    }
    on = (
        f"fitted on {counts['pretrain']}, judged on the locked {counts['test']}"
        if "test" in counts
        else (f"cross-validated on {counts['pretrain']}, no test clip opened")
    )
    lines += ["", f"{report['task']}: {on}. Brackets: 95 % bootstrap over groups.", f"`{report['command']}`"]
    return "\n".join(lines)


def _cell(numbers: dict[str, float] | None) -> str:
    return "" if numbers is None else f"{numbers['value']:.3f} [{numbers['low']:.3f}, {numbers['high']:.3f}]"


def main(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    data: Path,
    part: Literal["test", "inner"] = "test",
    size: int | None = None,
    seeds: int = 5,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    cache: Path = Path("cache"),
    bf16: bool = False,
) -> None:
    """Print the probe table of the lung task.

    Args:
        models: usbackbones/ARCH.TAG, run:FOLDER of training.pretrain, local-dir:FOLDER, any timm name, or random:ARCH.
        data: folder that holds pocus_lung/.
        part: judge on the locked test groups, or cross-validate without them to make a choice.
        size: side of every network's input in pixels; by default each pretrained network's own. Random networks
            take size, mean and std of the first pretrained one.
        seeds: networks that a random: row is averaged over.
        json_file: write all numbers here.
        cache: folder for decoded frames.
        bf16: compute features in bfloat16.
    """
    command = ["python", "-m", "training.benchmark.lung"]
    protocol = Protocol(part=part, bf16=bf16)
    try:
        task = lung_task(data, cache)
        counts = {"pretrain": task.pretrain.counts()} | ({"test": task.test.counts()} if part == "test" else {})
        networks = rows_of_networks(models, size, seeds)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
    found = {
        name: predict(tqdm(members, name, unit="network"), task, protocol)
        for name, members in networks.items()
        if not isinstance(members, str)
    }
    reference = next((name for name in found if name.startswith(RANDOM)), None)
    rows: list[dict[str, Any]] = []
    for name, members in networks.items():
        if isinstance(members, str):
            again = shlex.join([*command, name, "--data", str(data), "--part", part])
            rows.append({"model": name, "not_run": members, "command": again})
            continue
        network: Any = members[0]
        against = found[reference] if reference and reference != name else None
        rows.append(
            {
                "model": name,
                "networks": len(members),
                "input": {key: network.pretrained_cfg[key] for key in PLAIN_INPUT},
                "penalties": found[name].penalties,
                "results": judge(found[name], task, protocol, against),
            }
        )
    given = sys.argv[1:]
    if "--json" in given:  # where the numbers were put is nobody's business but the caller's
        place = given.index("--json")
        del given[place : place + 2]
    report = {
        "task": task.name,
        "classes": task.classes,
        "protocol": asdict(protocol),
        "counts": counts,
        "reference": reference,
        "rows": rows,
        "versions": {module.__name__: module.__version__ for module in (np, sklearn, timm, torch)},
        "command": shlex.join([*command, *given]),
    }
    print(markdown(report))  # noqa: T201
    if json_file:
        with atomic_write(json_file, "w") as stream:
            json.dump(report, stream, indent=1)


if __name__ == "__main__":
    tyro.cli(main)
