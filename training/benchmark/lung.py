"""The lung table: frozen features, kNN and linear probe, frames and clips, intervals over groups.

    python -m training.benchmark.lung usbackbones/resnet18.TAG random:resnet18 --data FOLDER

A MODEL is `usbackbones/ARCH.TAG`, `run:FOLDER` of training.pretrain, `local-dir:FOLDER`, any name that timm knows, or
`random:ARCH`, the mean over several random initialisations. The default judges on the locked test part: the probes are fitted on the pretraining
part, their penalty is chosen inside it, and the test labels are read once, by the scores. Every other choice is made
with `--part inner`, which cross-validates inside the pretraining part and never opens a test clip. A backbone that was
pretrained on those very clips looks too good there; to choose a recipe, pretrain without some groups and judge on
`task.holding_out(groups)`.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
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

from training.benchmark.tasks import Part, Task, lung_task
from training.published import backbone_of_run
from usbackbones.files import atomic_write
from usbackbones.probe import METRICS, bootstrap, by_clip, embed, interval, knn_predict, linear_predict, scores
from usbackbones.splits import grouped_folds

PROBES = ("knn", "linear")
LEVELS = ("frame", "clip")
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


@dataclass(frozen=True)
class Protocol:
    """How a row of the table is made.

    Attributes:
        part: "test" fits on the pretraining part and judges on the locked one; "inner" cross-validates inside the
            pretraining part.
        folds: of the inner part.
        repeats: how often the inner part is divided anew.
        resamples: of the bootstrap over groups.
        seed: of folds and bootstrap.
        bf16: compute features in bfloat16.
    """

    part: Literal["inner", "test"] = "inner"
    folds: int = 5
    repeats: int = 3
    resamples: int = 2000
    seed: int = 0
    bf16: bool = False


@dataclass(frozen=True)
class Predictions:
    """What the probes say about the judged frames, made before anybody looks at the labels of those frames.

    Attributes:
        probability: for each probe one float [N, C] for each network and, on the inner part, each repeat.
        penalties: the C that each fitted linear probe chose.
    """

    probability: dict[str, list[np.ndarray]]
    penalties: list[float]


def predict(models: Iterable[nn.Module], task: Task, protocol: Protocol) -> Predictions:
    """Fit the probes on the frozen features of each network and predict the judged part.

    Here is the guard: of the locked part nothing but the frames is read, and each is only ever predicted.
    """
    out = Predictions({probe: [] for probe in PROBES}, [])
    known = task.pretrain
    locked = task.test.frames if protocol.part == "test" else None
    for model in models:
        features = embed(model, known.frames, bf16=protocol.bf16)
        judged = features if locked is None else embed(model, locked, bf16=protocol.bf16)
        for folds in _divisions(task, protocol, len(judged)):
            whole = {probe: np.empty((len(judged), len(task.classes))) for probe in PROBES}
            for fit, held in folds:
                x, y, classes = features[fit], known.label[fit], len(task.classes)
                whole["knn"][held] = knn_predict(x, y, judged[held], classes=classes)
                whole["linear"][held], penalty = linear_predict(
                    x, y, known.group[fit], judged[held], known.clip[fit], classes=classes
                )
                out.penalties.append(penalty)
            for probe in PROBES:
                out.probability[probe].append(whole[probe])
    return out


def _divisions(task: Task, protocol: Protocol, judged: int) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Rows to fit on and rows to judge: one pair for the locked part, `repeats` times `folds` for the inner one."""
    known = task.pretrain
    if protocol.part == "test":
        return [[(np.arange(len(known.label)), np.arange(judged))]]
    names = [task.classes[label] for label in known.label]
    return [
        grouped_folds(known.group.tolist(), names, protocol.folds, protocol.seed + repeat)
        for repeat in range(protocol.repeats)
    ]


def judge(
    predictions: Predictions, task: Task, protocol: Protocol, reference: Predictions | None = None
) -> dict[str, Any]:
    """Compare predictions with the labels: {probe: {level: {metric: {"value", "low", "high", "members"}}}}.

    "value" is the mean over the members (networks, repeats), "members" their own values, "low" and "high" the 95 %
    interval over groups. With a reference, "difference" holds the first three for the paired difference to it.
    """
    part = task.test if protocol.part == "test" else task.pretrain
    row: dict[str, Any] = {}
    for probe in PROBES:
        mine = _measured(predictions.probability[probe], part, protocol)
        other = _measured(reference.probability[probe], part, protocol) if reference else None
        row[probe] = {level: {} for level in LEVELS}
        for level, metric in product(LEVELS, METRICS):
            members, samples = mine[level, metric]
            entry: dict[str, Any] = _numbers(members, samples) | {"members": members}
            if other:
                values, drawn = other[level, metric]
                entry["difference"] = _numbers([float(np.mean(members) - np.mean(values))], samples - drawn)
            row[probe][level][metric] = entry
    return row


def _measured(
    members: list[np.ndarray], part: Part, protocol: Protocol
) -> dict[tuple[str, str], tuple[list[float], np.ndarray]]:
    """For each (level, metric) the value of each member and the bootstrap samples of their mean."""
    values = [scores(part.label, probability, part.clip) for probability in members]
    pooled = [by_clip(part.label, probability, part.clip, part.group) for probability in members]
    draws = {
        "frame": bootstrap(part.label, members, part.group, protocol.resamples, protocol.seed),
        "clip": bootstrap(
            pooled[0][0], [clips[1] for clips in pooled], pooled[0][2], protocol.resamples, protocol.seed
        ),
    }
    return {
        (level, metric): ([value[level][metric] for value in values], draws[level][metric])
        for level, metric in product(LEVELS, METRICS)
    }


def _numbers(members: list[float], samples: np.ndarray) -> dict[str, float]:
    low, high = interval(samples)
    return {"value": float(np.mean(members)), "low": low, "high": high}


def evaluate_backbone(
    models: nn.Module | Iterable[nn.Module],
    task: Task,
    part: Literal["inner", "test"] = "inner",
    reference: Predictions | None = None,
    **protocol: Any,
) -> dict[str, Any]:
    """One row of the table, for studies: the task keeps its frames, so further calls decode nothing.

    Args:
        models: a network, or several that count as one row (seeds).
        task: as from `training.benchmark.tasks.lung_task`; for a backbone whose pretraining left some groups out,
            `task.holding_out(groups)` with part="test".
        part: "inner" for every choice; "test" of the whole task once, at the end.
        reference: what `predict` returns for the networks to take the paired difference to, as `random_networks`.
        protocol: further fields of `Protocol`.

    Returns:
        What `judge` returns.
    """
    chosen = Protocol(part=part, **protocol)
    nets = [models] if isinstance(models, nn.Module) else models
    return judge(predict(nets, task, chosen), task, chosen, reference)


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
    report = {
        "task": task.name,
        "classes": task.classes,
        "protocol": asdict(protocol),
        "counts": counts,
        "reference": reference,
        "rows": rows,
        "versions": {module.__name__: module.__version__ for module in (np, sklearn, timm, torch)},
        "command": shlex.join([*command, *sys.argv[1:]]),
    }
    print(markdown(report))  # noqa: T201
    if json_file:
        with atomic_write(json_file, "w") as stream:
            json.dump(report, stream, indent=1)


if __name__ == "__main__":
    tyro.cli(main)
