"""One task, all rows: from networks to the numbers that a table is rendered from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import timm
import torch
from tqdm import tqdm

from training.benchmark.cues import cue_features, is_cue
from training.benchmark.dense.task import DenseProtocol, DenseTask
from training.benchmark.imagenet import shown_name
from training.benchmark.legacy.trained_head import HONEST, LEGACY, Training, evaluate_linear_head
from training.benchmark.models import (
    PLAIN_INPUT,
    RANDOM,
    RUN,
    Entry,
    is_imagenet,
    is_simclr,
    method_of_runs,
    record_of,
    run_folders,
)
from training.benchmark.protocol import Predictions, Protocol, compare, compare_few, predict, predict_features
from training.benchmark.task import Task
from training.data.locked_splits import has_locked_part
from training.data.records import patients_of
from usbackbones.features.extract import embed
from usbackbones.hub.pretraining_run import read_json


@dataclass(frozen=True)
class Columns:
    """What a table holds beside the probes.

    Attributes:
        overlap: what is known of evaluated groups that a weight was pretrained on.
        legacy: epochs of the trained head that is evaluated as the seeds evaluated; 0 for no such column.
    """

    overlap: bool = False
    legacy: int = 0


def task_report(
    task: Task, rows: Sequence[Entry], protocol: Protocol, columns: Columns, command: str, cache: Path | None
) -> dict[str, Any]:
    """The numbers of a task's table, which `training.benchmark.markdown.markdown` renders.

    Raises:
        ValueError: if a weight was pretrained on groups of the locked part that it is to be evaluated on.
    """
    overlaps = {entry.name: overlap(entry, task, protocol) for entry in rows}
    found = {
        entry.name: predict(tqdm(entry.members, f"{task.name}: {entry.name}", unit="network"), task, protocol, cache)
        for entry in rows
        if entry.members
    }
    locked = protocol.part == "test"
    found |= {
        entry.name: predict_features([cue_features(entry.name, task, locked, cache)], task, protocol)
        for entry in rows
        if is_cue(entry.name)
    }
    nulls = {entry.arch: found[entry.name] for entry in rows if entry.name.startswith(RANDOM)}
    controls = {entry.arch: found[entry.name] for entry in rows if is_simclr(entry.name)}
    photos = next((entry.name for entry in rows if entry.members and is_imagenet(entry.name)), None)
    first = next((entry.name for entry in rows if entry.name.startswith(RANDOM)), None)
    report: dict[str, Any] = {
        "task": task.name,
        "kind": task.kind,
        "classes": task.classes,
        "about": task.about,
        "protocol": asdict(protocol),
        "counts": {"pretrain": task.pretrain.counts()}
        | ({"test": task.test.counts()} if protocol.part == "test" else {}),
        "reference": first,
        "rows": [],
        "versions": {module.__name__: module.__version__ for module in (np, sklearn, timm, torch)},
        "command": command,
    }
    for entry in rows:
        shown = {"overlap": overlaps[entry.name]} if columns.overlap else {}
        if entry.name not in found:
            report["rows"].append(
                {"model": shown_name(entry.name), **shown, "not_run": entry.why_not, "command": entry.remedy or command}
            )
            continue
        if is_cue(entry.name):
            report["rows"].append(_results(entry, task, protocol, found[entry.name]) | shown)
            continue
        references = {
            "difference": nulls.get(entry.arch) or (found[first] if first else None),
            "to_simclr": controls.get(entry.arch),
            "to_imagenet": found[photos] if photos else None,
        }
        row = _row(entry, task, protocol, found[entry.name], references)
        if columns.legacy and task.kind == "classes":
            row["legacy"] = _legacy(entry, task, protocol, columns.legacy, cache)
        report["rows"].append(row | shown)
    return report


def _row(
    entry: Entry, task: Task, protocol: Protocol, mine: Predictions, references: Mapping[str, Predictions | None]
) -> dict[str, Any]:
    """The numbers of a row; random weights are compared with nothing, and no row with itself."""
    network: Any = entry.members[0]
    null = references["difference"]
    beside = {name: other for name, other in references.items() if other and other is not mine and mine is not null}
    row = _results(entry, task, protocol, mine, **beside)
    row["input"] = {key: network.pretrained_cfg[key] for key in PLAIN_INPUT}
    against = beside.get("difference")
    if against and (networks := _networks(against, protocol)) > 1:  # a single one has no spread
        row["noise"] = noise_floor(compare(against, task, protocol), networks)
    return row


def _results(
    entry: Entry, task: Task, protocol: Protocol, mine: Predictions, **references: Predictions
) -> dict[str, Any]:
    """A row's numbers, which those of a cue share with those of networks."""
    row: dict[str, Any] = {
        "model": shown_name(entry.name),
        "arch": entry.arch,
        "networks": len(entry.members),
        "penalties": mine.penalties,
        "results": compare(mine, task, protocol, **references),
    }
    if entry.name.startswith(RUN):
        row["method"] = method_of_runs(entry.name)
    if protocol.shots and task.kind == "classes":
        row["few_shot"] = compare_few(mine, task, protocol)
    return row


def _networks(predictions: Predictions, protocol: Protocol) -> int:
    members = len(next(iter(predictions.probe.values())))
    return members if protocol.part == "test" else members // protocol.repeats


def noise_floor(results: Mapping[str, Any], networks: int) -> dict[str, Any]:
    """How far the best and the worst of several random networks are apart: {probe: {level: {metric: range}}}.

    `results` are those of `compare`; repeats of one network are averaged first.
    """
    return {
        probe: {
            level: {
                metric: float(np.ptp(np.reshape(entry["members"], (networks, -1)).mean(1)))
                for metric, entry in metrics.items()
            }
            for level, metrics in levels.items()
        }
        for probe, levels in results.items()
    }


def _legacy(entry: Entry, task: Task, protocol: Protocol, epochs: int, cache: Path | None) -> dict[str, float]:
    """The accuracy of a trained linear head, both ways, as the mean over the row's networks."""
    known, training = task.pretrain, Training(epochs=epochs)
    arms = [
        evaluate_linear_head(
            embed(model, known.frames, bf16=protocol.bf16, cache=cache),
            known.label,
            known.group,
            len(task.classes),
            training,
            seed,
        )
        for seed, model in enumerate(entry.members)
    ]
    return {name: float(np.mean([arm[of] for arm in arms])) for name, of in (("legacy", LEGACY), ("honest", HONEST))}


def overlap(entry: Entry, task: Task | DenseTask, protocol: Protocol | DenseProtocol) -> str:
    """Evaluated groups that the weight of a row was pretrained on, by name and by its ledger of frames.

    Raises:
        ValueError: if it was pretrained on groups of the locked part that it is to be evaluated on.
    """
    if entry.name.startswith(RANDOM) or is_cue(entry.name):
        return "none"
    corpora, benchmarks = _corpora(entry)
    if not corpora:
        return "unknown"
    rows = task.test_rows if protocol.part == "test" else task.rows
    evaluated = {(row.source, row.group.removeprefix(f"{row.source}/")) for row in rows}
    shared = sorted(group for _, group in evaluated & seen_groups(entry))
    if shared and protocol.part == "test":
        raise ValueError(
            f"{entry.name} was pretrained on {len(shared)} locked groups of {task.name} ({', '.join(shared[:5])}): "
            "it cannot be evaluated on them"
        )
    # The ledger was compared with the locked part of a set that has one, which is not what another part evaluates.
    sources = {source for source, _ in evaluated}
    known = {one for one in sources & {*benchmarks} if protocol.part == "test" or not has_locked_part(one)}
    verdicts = sorted({benchmarks[source]["verdict"] for source in known})
    verdicts += ["unknown"] * (bool(verdicts) and known < sources and "unknown" not in verdicts)
    return "; ".join([f"{len(shared)} of {len(evaluated)} groups", *(f"by frames {verdict}" for verdict in verdicts)])


def seen_groups(entry: Entry) -> set[tuple[str, str]]:
    """(source, group) of all that a row's networks were pretrained on, as far as it is recorded, see `patients_of`."""
    corpora, _ = _corpora(entry)
    return set().union(*map(patients_of, corpora))


def _corpora(entry: Entry) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What a row's networks were pretrained on, and what the ledger found of each benchmark; nothing if not known."""
    if entry.name.startswith(RUN):
        return [read_json(folder / "corpus.json") for folder in run_folders(entry.name)], {}
    record = record_of(entry.name) if entry.members else None
    return ([record["corpus"]], dict(record["overlap"].get("benchmarks", {}))) if record else ([], {})
