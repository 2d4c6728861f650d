"""Sources held out: no patient is divided, and a backbone that knows the source only is found out."""

import numpy as np
import pytest

from usbackbones.auditing.estimate import Target
from usbackbones.auditing.rows import JOINED, coded, scored
from usbackbones.auditing.source import joined_sources, source_held_out, where_cue_is_right


@pytest.fixture(scope="module")
def clinics():
    """(source, patients, labels): six clinics, each with patients of one class for the most part."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(6), 20)
    y = np.where(rng.random(120) < 0.9, source % 2, 1 - source % 2)
    return [f"clinic {s}" for s in source], [f"p{n // 2}" for n in range(120)], Target(y, ("a", "b"))


def test_sources_that_share_a_patient_are_one():
    assert joined_sources(["p", "p", "q", "r"], ["B", "A", "B", "C"]) == ["A", "A", "A", "C"]


def test_a_backbone_that_knows_the_clinic_falls_where_clinics_are_held_out(clinics):
    sources, groups, target = clinics
    x = np.eye(6)[[int(s[-1]) for s in sources]]
    row = scored("backbone", x, target, {JOINED: groups}, True)
    held = source_held_out(x, target, row, groups, sources)
    assert held.sources == 6
    assert held.by_patient.value > 0.8
    assert held.by_source.value < 0.6
    assert held.low <= held.difference <= held.high < 0
    assert held.difference == pytest.approx(held.by_source.value - held.by_patient.value)
    assert source_held_out(x, target, row, groups, ["one"] * 60 + ["two"] * 60) is None


def test_where_the_cue_is_wrong_the_backbone_that_follows_it_is_wrong(clinics):
    sources, groups, target = clinics
    x = np.eye(6)[[int(s[-1]) for s in sources]]
    row = scored("backbone", x, target, {JOINED: groups}, True)
    told = where_cue_is_right(row, row, target)
    assert told["cue right"]["accuracy"] == 1
    assert told["cue wrong"]["accuracy"] == 0
    assert told["cue right"]["share of files"] + told["cue wrong"]["share of files"] == pytest.approx(1)


def test_hospitals_are_letters():
    facts = [{"Manufacturer": "GE", "InstitutionName": name} for name in ("St. Mary", "Charite", "Charite")] + [{}]
    assert [of.get("InstitutionName") for of in coded(facts)] == ["B", "A", "A", None]
    assert coded(facts)[0]["Manufacturer"] == "GE"
