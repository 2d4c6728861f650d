"""The study: what is trained on never meets what is judged, and the table says what the log says."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from training.data.manifest import Row
from training.release.render import STUDY
from training.study.run import members_without
from training.study.table import VARIANTS, Record, read_log, study_table


def row(clip, group, source="a"):
    return Row(clip, clip, group, licence="CC0", source=source)


def test_no_group_that_is_judged_is_trained_on_under_any_name():
    rows = [row("1", "x"), row("2", "x"), row("3", "y"), row("4", "z"), row("5", "x", "b"), row("6", "w", "c")]
    cache = SimpleNamespace(clips=[SimpleNamespace(row=one) for one in rows])
    judged = {
        "one": SimpleNamespace(test_rows=[row("1", "called otherwise")]),
        "two": SimpleNamespace(test_rows=[row("not in the corpus", "z")]),
    }
    assert members_without(cache, judged, ("a", "b")).tolist() == [2, 4]
    assert members_without(cache, {}, ("a",)).tolist() == [0, 1, 2, 3]


@pytest.fixture
def log(tmp_path):
    """Two variants, three seeds, of which the control lacks one."""
    rng, records = np.random.default_rng(0), []
    for variant, seeds in (("simclr", (0, 1)), ("uscl", (0, 1, 2))):
        for seed in seeds:
            lung, head = rng.uniform(0.5, 1, 2)
            found = {"lung": {"linear": {"clip": lung}, "knn": {"clip": 0}}, "hc18": {"ridge": {"frame": 10 * head}}}
            records.append(Record(variant, ("a",), 300, seed, 2, 96, found))
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(record.told(record.found)) + "\n" for record in records))
    return file


def test_the_log_is_read_as_it_was_written(log):
    records = read_log(log)
    assert [record.key for record in records][:2] == [
        ("simclr", ("a",), 300, 0, 2, 96),
        ("simclr", ("a",), 300, 1, 2, 96),
    ]
    assert read_log(log.with_name("none.jsonl")) == []


def test_the_table_has_means_over_runs_and_differences_over_pairs(log):
    found = {(r.variant, r.seed): r.found["lung"]["linear"]["clip"] for r in read_log(log)}
    mine = [found["uscl", seed] for seed in (0, 1, 2)]
    apart = [found["uscl", seed] - found["simclr", seed] for seed in (0, 1)]
    mean = sum(apart) / 2
    quantile = math.tan(math.pi * 0.475)  # Student's with one degree of freedom is Cauchy's
    error = quantile * (sum((one - mean) ** 2 for one in apart) / 1) ** 0.5 / 2**0.5
    head, _, control, line = study_table(log).splitlines()
    assert head.split("|")[6:8] == [" lung ", " hc18 (mm) "]
    assert line.startswith(f"| uscl | a | 300 | 96 px | 3 | {sum(mine) / 3:.2f} ({mean:+.2f} ± {error:.2f}) |")
    assert "±" not in control


def test_every_variant_is_a_recipe_that_can_be_told():
    assert {"random", "simclr", "uscl", "meta_uscl", "hico", "awcl"} <= VARIANTS.keys()
    assert {recipe.batch for recipe in VARIANTS.values()} == {48}, "an equal budget is one batch for all"


def test_the_page_shows_what_the_log_holds():
    assert study_table() in STUDY.read_text(encoding="utf-8"), "run python -m training.release render"
