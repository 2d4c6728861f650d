"""Draw the locked test part of a dataset, once: python -m training.benchmark.lock GROUPS_CSV --name NAME.

The file it writes holds group ids only and is committed; no published weight ever sees a clip of its test part.
It refuses to write over an existing file, because a test part that can be drawn again is not a test part.
"""

import csv
import json
from pathlib import Path
from typing import Annotated

import tyro

from usbackbones.splits import assert_disjoint, holdout

SPLITS = Path(__file__).parent / "splits"


def locked_split(name: str) -> dict[str, list[str]]:
    """The committed group ids of a dataset: {"pretrain": [...], "test": [...]}, checked to be disjoint."""
    file = SPLITS / f"{name}.json"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in SPLITS.glob("*.json")))
        raise FileNotFoundError(f"no locked split named {name!r} in {SPLITS}; there is: {known}")
    split = json.loads(file.read_text())
    assert_disjoint(split["pretrain"], split["test"])
    return {"pretrain": split["pretrain"], "test": split["test"]}


def main(
    table: Annotated[Path, tyro.conf.Positional],
    name: str,
    fraction: float = 0.25,
    seed: int = 0,
) -> None:
    """Hold out a fraction of a dataset's groups, stratified by label and by video or still.

    Args:
        table: a CSV with the columns group, label and kind (video or image).
        name: the split is written to training/benchmark/splits/NAME.json.
        fraction: share of the groups of each stratum that is locked away.
        seed: of the draw.
    """
    file = SPLITS / f"{name}.json"
    if file.exists():
        raise SystemExit(f"{file} exists: a locked test part is drawn once and never again")
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with_video = {row["group"] for row in rows if row["kind"] == "video"}
    strata = [f"{row['label']} {'video' if row['group'] in with_video else 'still'}" for row in rows]
    kept, held = holdout([row["group"] for row in rows], strata, fraction, seed)
    split = {
        "dataset": name,
        "seed": seed,
        "fraction": fraction,
        "test": sorted(held),
        "pretrain": sorted(kept),
    }
    file.write_text(json.dumps(split, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
