"""Records in a run folder: its recipe, its corpus, and the environment."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from training.data.batches.sampling import StepBatches
from training.data.cache import Cache
from training.data.locked_splits import has_locked_part, locked_groups
from training.data.manifest import Row
from training.nn.distributed import world_size
from training.recipes import Recipe
from usbackbones._files import atomic_write

AVERAGED = 50
"""Last steps whose losses are averaged in summary.json."""


def describe_recipe(recipe: Recipe, name: str) -> dict[str, Any]:
    """A recipe as plain data, with what release needs to build the backbone again and to cite the method."""
    method = {"name": recipe.method.name, "paper": recipe.method.paper._asdict(), **asdict(recipe.method)}
    return {"recipe": name, "model_args": recipe.model_args(), **asdict(recipe), "method": method}


def describe_corpus(cache: Cache, data: StepBatches) -> dict[str, Any]:
    """Ids, licences and hashes of what a run sees, meta clips included; no image and no path."""
    seen = [cache.clips[index] for index in (*data.members, *data.meta)]
    rows = [clip.row for clip in seen]
    return {
        "frames_sha256": cache.sha256,
        "rows_sha256": rows_sha256(cache),
        "frame_size": cache.size,
        "clips": sorted(row.clip for row in rows),
        "meta_clips": len(data.meta),
        "groups": sorted({row.group for row in rows}),
        "sources": sorted({row.source for row in rows}),
        "patients": {source: sorted(groups) for source, groups in sorted(_by_source(rows).items())},
        "locked_groups": _locked(rows),
        "organs": sorted({row.organ for row in rows} - {""}),
        "classes": cache.classes,
        "licences": sorted({row.licence for row in rows}),
        "frames": int(sum(clip.count for clip in seen)),
    }


def rows_sha256(cache: Cache) -> str:
    """Of all that training reads of a corpus besides frames: who a clip belongs to, and its labels."""
    rows = [
        (row.source, row.clip, row.group, row.label, row.organ, row.anatomy) for row in (c.row for c in cache.clips)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _by_source(rows: Iterable[Row]) -> dict[str, set[str]]:
    """The groups of each source."""
    of_source: dict[str, set[str]] = {}
    for row in rows:
        of_source.setdefault(row.source, set()).add(row.group)
    return of_source


def _locked(rows: Iterable[Row]) -> list[str]:
    """Groups that are in the locked test part of their dataset, or are tied to one there by near-duplicates."""
    of_source = _by_source(rows).items()
    sets = [locked_groups(source, groups) for source, groups in of_source if has_locked_part(source)]
    return sorted(set().union(*sets))


def environment() -> dict[str, Any]:
    """Versions, machine, processes, and the revision of this source, with whether it was changed since.

    Where git does not know the source, both are None.
    """
    revision = _git("rev-parse", "HEAD")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "cpu": _cpu(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "processes": world_size(),
        "git": revision,
        "git_changed": None if revision is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a file of the run folder."""
    with atomic_write(file, "w") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def _cpu() -> str:
    """The type of the processor, on which the last bits of a training depend; empty where it cannot be told."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git(*args: str) -> str | None:
    """What git says of the folder that this source is in; None without git, or where the source is installed."""
    try:
        done = subprocess.run(["git", "-C", Path(__file__).parent, *args], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
