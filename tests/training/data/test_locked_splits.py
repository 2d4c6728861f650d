"""Locked test parts: drawn once, by the authors' pattern, with near-duplicates together, or by the rule."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.hub.cli.test_writing import full_disk
from tests.phantoms import phantom_clip
from training.data import locked_splits
from training.data.corpora import CORPORA
from training.data.locked_splits import BY_RULE, SPLITS, draw, joined, locked_groups, locked_split, main


@pytest.fixture
def splits(tmp_path, monkeypatch):
    monkeypatch.setattr(locked_splits, "SPLITS", tmp_path / "splits")
    return tmp_path / "splits"


def write(file, rows):
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_near_duplicates_are_joined_and_stay_together(splits, tmp_path):
    """Twelve pictures of twelve simulated patients; three are there again, smaller or mirrored, under other names."""
    pictures = {f"p{n:02d}": phantom_clip(n, frames=1, size=128)[0] for n in range(12)}
    pictures["q0"] = np.asarray(Image.fromarray(pictures["p00"]).resize((96, 96)))
    pictures["q1"] = pictures["p05"][:, ::-1]
    pictures["q2"] = pictures["q1"]
    rows = []
    for n, (name, picture) in enumerate(pictures.items()):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        rows.append({"path": f"{name}.png", "group": name, "label": "ab"[n % 2]})
    main(write(tmp_path / "table.csv", rows), "busi", fraction=0.5, join_duplicates=True)
    assert joined("busi") == {"q0": "p00", "q1": "p05", "q2": "p05"}
    split = locked_split("busi")
    assert sorted(split["test"] + split["pretrain"]) == sorted(pictures)
    for family in ({"p00", "q0"}, {"p05", "q1", "q2"}):
        assert family <= set(split["test"]) or family <= set(split["pretrain"])
    assert 3 <= len(split["test"]) <= 9


def test_a_split_is_written_whole_and_once(splits, tmp_path):
    """On a full disk, with a file in place of the folder, and twice."""
    words = write(tmp_path / "t.csv", [{"group": str(number), "label": "a"} for number in range(8)]), "ours"
    with full_disk(20), pytest.raises(OSError, match="too large"):
        main(*words)
    assert not list(splits.iterdir())
    splits.rmdir()
    splits.write_text("precious")
    with pytest.raises(OSError, match=r"splits"):
        main(*words)
    assert splits.read_text() == "precious"
    splits.unlink()
    main(*words)
    before = (splits / "ours.json").read_bytes()
    with pytest.raises(SystemExit, match="is drawn once and never again"):
        main(*words)
    assert (splits / "ours.json").read_bytes() == before


def test_a_pattern_that_divides_near_duplicates_is_refused(splits, tmp_path):
    for n, name in enumerate(("train", "also", "test")):
        Image.fromarray(phantom_clip(n % 2, frames=1, size=128)[0]).save(tmp_path / f"{name}.png")
    table = write(tmp_path / "t.csv", [{"path": f"{name}.png", "group": name} for name in ("train", "also", "test")])
    with pytest.raises(SystemExit, match="'test' divides near-duplicates: train"):
        main(table, "others", held="test", join_duplicates=True)
    main(table, "others", held="also", join_duplicates=True)
    assert joined("others") == {"train": "test"}


def test_joined_groups_are_drawn_as_one():
    rows = [{"group": f"g{n}", "label": "a"} for n in range(40)]
    pairs = {f"g{n}": f"g{n - n % 2}" for n in range(40)}
    found = draw(rows, 0.25, 0, pairs)
    assert len(found["test"]) == 10 and len(found["joined"]) == 20
    assert {pairs[group] for group in found["test"]}.isdisjoint({pairs[group] for group in found["pretrain"]})
    assert "joined" not in draw(rows, 0.25, 0)


def test_the_part_that_authors_keep_is_taken_by_its_name(splits, tmp_path):
    table = write(tmp_path / "t.csv", [{"group": name} for name in ("test/1", "train/1", "train/2")])
    main(table, "hospitals", held="test/*")
    assert locked_split("hospitals") == {"test": ["test/1"], "pretrain": ["train/1", "train/2"]}
    for pattern in ("nothing/*", "*"):
        with pytest.raises(SystemExit, match="must match some, not all"):
            main(table, "others", held=pattern)
    with pytest.raises(SystemExit, match="drawn once and never again"):
        main(table, "hospitals", held="train/*")
    assert [file.name for file in splits.iterdir()] == ["hospitals.json"]


def test_the_rule_is_the_same_for_ever_and_takes_about_a_quarter():
    groups = [f"Patient{n:05d}" for n in range(2000)]
    held = locked_groups("fetal_planes_db", groups)
    assert 430 < len(held) < 570
    assert held == locked_groups("fetal_planes_db", groups[::-1])
    assert sorted(locked_groups("fetal_planes_db", groups[:12])) == ["Patient00000", "Patient00001", "Patient00002"]
    assert held != locked_groups("bus_bra", groups)


def test_a_dataset_has_a_drawn_part_or_a_rule_and_not_both():
    assert set(BY_RULE) <= set(CORPORA)
    assert not any((SPLITS / f"{name}.json").exists() for name in BY_RULE)
    with pytest.raises(FileNotFoundError, match="no locked split named 'ddti'"):
        locked_groups("ddti", ["g"])
    with pytest.raises(ValueError, match="'nobody' is on neither side of the locked split of hc18"):
        locked_groups("hc18", ["010", "nobody"])


def test_the_committed_splits_are_whole_and_hold_ids_alone():
    for file in SPLITS.glob("*.json"):
        split = json.loads(file.read_text())
        assert split["dataset"] == file.stem and split["test"] and split["pretrain"]
        assert not set(split["test"]) & set(split["pretrain"])
        assert split.keys() <= {"dataset", "seed", "fraction", "held", "joined", "test", "pretrain"}
        sides = {group: side for side in ("test", "pretrain") for group in split[side]}
        tied = split.get("joined", {})
        # What was found to be tied to a locked group after the draw is locked with it; nothing is ever unlocked.
        assert all(sides[leader] in ("test", sides[group]) for group, leader in tied.items())
        locked = locked_groups(file.stem, sides)
        assert {*split["test"]} <= locked and all((group in locked) == (tied[group] in locked) for group in tied)


def test_the_external_hospitals_are_the_locked_part(shared_data):
    rows = CORPORA["gallbladder_ba"].rows(shared_data / "gallbladder_ba")
    held = locked_groups("gallbladder_ba", {row.group for row in rows})
    assert held == {row.group for row in rows if row.clip.startswith("gallbladder_ba/test_data/")}
    assert sum(row.group in held for row in rows) == 841
