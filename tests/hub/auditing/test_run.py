"""Audits end to end: planted faults are found, clean sets raise nothing, bad input is refused in a line."""

import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.hub.auditing.sets import PATIENTS, still, with_bar, with_calipers, write_set, write_table
from tests.hub.clips.dicom.dicom_files import write_dicom
from usbackbones.auditing.findings import Finding, accepted, write_junit
from usbackbones.auditing.run import audit
from usbackbones.data.dataset import read_items
from usbackbones.data.item import DataError

pytest.importorskip("cv2", reason="the screen's rows need OpenCV")


def halves(patient):
    return "ab"[patient % 2]


def random_labels(seed):
    drawn = np.random.default_rng([seed, 99]).permutation(np.arange(PATIENTS) % 2)
    return lambda patient: "ab"[drawn[patient]]


def kinds(done):
    return {one.key.split(":")[0] if not one.key.startswith("tells") else one.key for one in done.serious}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a bar outside of the tissue and calipers in one class, which is JPEG; a twin; a divided patient."""
    folder = tmp_path_factory.mktemp("planted")
    rows = write_set(
        folder,
        halves,
        lambda frame, label: with_calipers(with_bar(frame)) if label == "b" else frame,
        lambda label: "jpg" if label == "b" else "png",
    )
    for number, row in enumerate(rows):
        row["split"] = ("train", "validation", "test")[number // 2 % 3]
    rows[1]["split"] = "test"
    Image.open(folder / rows[0]["path"]).save(folder / "twin.jpg", quality=90)
    rows.append({"path": "twin.jpg", "label": "b", "patient": "p99", "split": rows[0]["split"]})
    return write_table(folder / "data.csv", rows)


@pytest.fixture(scope="module")
def audited(planted, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "audit"
    return audit(planted, out, junit=out.parent / "junit.xml", progress=False)


def test_planted_faults_are_each_found(audited):
    wanted = {"tells:container", "tells:outside of sector", "tells:text and calipers"}
    assert kinds(audited) >= wanted | {"patient-in-two-parts", "twins-opposite"}
    assert audited.detectors["calipers"] >= 20
    text = " ".join(one.text for one in audited.findings)
    assert "p00" not in text
    assert ".png" not in text


def test_what_is_written(audited):
    folder = audited.folder
    content = json.loads((folder / "audit.json").read_text())
    assert {row["name"]: row["test"] is not None for row in content["rows"]}["thumbnail"] is False
    assert {"border of 64 x 64, clean", "gray levels, clean", "thumbnail, clean"} <= {
        r["name"] for r in content["rows"]
    }
    assert [one["key"] for one in content["findings"]] == [one.key for one in audited.findings]
    assert "scanner: not run, no DICOM header names one" in content["missing"]
    remarks = (folder / "files.csv").read_text()
    assert "near-duplicate of 00_0.png across class and patient" in remarks
    assert "calipers" in remarks
    report = (folder / "report.html").read_text()
    assert "tells" in report
    assert "00_0.png" not in report
    assert "data:image" not in report
    suite = ElementTree.parse(folder.parent / "junit.xml").getroot()
    assert int(suite.get("failures")) == len(audited.serious) == len(suite.findall(".//failure"))
    passed = {case.get("name") for case in suite if not len(case)}
    assert "patient-contradicts" in passed


def test_repair_files_are_taken_by_the_reader_as_they_are(audited):
    groups = {item.path.name: item.group for item in read_items(audited.folder / "groups.csv")}
    assert groups["twin.jpg"] == groups["00_0.png"] == groups["00_1.png"]
    parts = {}
    for item in read_items(audited.folder / "split.csv"):
        parts.setdefault(item.group, set()).add(item.part)
    assert all(len(of) == 1 for of in parts.values())
    assert {part for of in parts.values() for part in of} == {"train", "validation", "test"}
    assert (audited.folder / "drop.csv").read_text().count("a near-duplicate has another label") == 2


def test_a_scanner_of_one_class_is_found(tmp_path):
    rows = []
    for patient in range(PATIENTS):
        file = tmp_path / f"{patient}.dcm"
        maker = "GE" if halves(patient) == "a" else "Philips"
        write_dicom(
            file,
            still(patient)[None],
            PatientID=f"id{patient}",
            PatientName="Doe^Jane",
            Manufacturer=maker,
            InstitutionName=f"Hospital {maker}",
            StudyDate="20200101",
        )
        rows.append({"path": file.name, "label": halves(patient)})
    done = audit(write_table(tmp_path / "data.csv", rows), tmp_path / "audit", progress=False)
    assert kinds(done) == {"tells:scanner"}
    assert done.privacy["header names"] == done.privacy["header dates"] == PATIENTS
    assert {(a["fact"], a["v"]) for a in done.associations} >= {("Manufacturer", 1.0)}
    assert "Doe" not in "".join((tmp_path / "audit" / name).read_text() for name in done.written)
    assert "Hospital" not in "".join((tmp_path / "audit" / name).read_text() for name in done.written)
    again = audit(tmp_path / "data.csv", tmp_path / "two", expected=["scanner"], progress=False)
    assert not again.serious


def test_a_clean_set_raises_nothing(tmp_path):
    rows = write_set(tmp_path / "set", random_labels(0))
    done = audit(write_table(tmp_path / "set" / "data.csv", rows), tmp_path / "audit", progress=False)
    assert done.serious == []
    assert done.target.chance == 0.5


@pytest.mark.slow
def test_twenty_clean_sets_raise_at_most_two_alarms(tmp_path):
    alarms = 0
    for seed in range(20):
        rows = write_set(tmp_path / str(seed), random_labels(seed), seed=seed)
        done = audit(write_table(tmp_path / str(seed) / "data.csv", rows), tmp_path / f"audit{seed}", progress=False)
        alarms += bool(done.serious)
    assert alarms <= 2  # of which one is expected at 5 %


def test_what_was_accepted_stays_accepted(audited, planted, tmp_path):
    folder = tmp_path / "audit"
    shutil.copytree(audited.folder, folder)
    content = json.loads((folder / "audit.json").read_text())
    for one in content["findings"]:
        one["accepted"] = "known" if one["key"] != "tells:container" else ""
    (folder / "audit.json").write_text(json.dumps(content))
    baseline = {one["key"]: one["accepted"] for one in content["findings"]}
    left = [one for one in accepted(audited.findings, baseline) if one.serious and not one.accepted]
    assert [one.key for one in left] == ["tells:container"]
    write_junit(tmp_path / "junit.xml", accepted(audited.findings, baseline), [])
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"
    again = audit(planted, folder, unlabelled=True, progress=False)  # the same folder: reasons are kept
    assert all(one.accepted for one in again.findings if one.key in baseline and one.key != "tells:container")


def test_numbers_are_told_by_a_column(tmp_path):
    rows = write_set(tmp_path, lambda patient: f"{50 + 7 * patient + 0.5}")
    for row in rows:
        row["pixel_mm"] = str(
            float(row["label"]) / 1000 + 0.01 * np.random.default_rng(int(row["patient"][1:])).normal()
        )
    done = audit(write_table(tmp_path / "data.csv", rows), tmp_path / "audit", columns=["pixel_mm"], progress=False)
    assert kinds(done) == {"tells:pixel_mm"}
    row = next(row for row in done.rows if row.name == "pixel_mm")
    assert row.score.error < 15 < 35 < row.score.level


def test_unlabelled_clips_are_audited_for_files_and_twins(tmp_path):
    write_set(tmp_path / "set", halves)
    shutil.copy(tmp_path / "set" / "00_0.png", tmp_path / "set" / "2019-03-04.png")
    (tmp_path / "set" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    done = audit(tmp_path / "set", tmp_path / "audit", unlabelled=True, progress=False)
    assert not done.rows
    assert done.privacy["name with a date"] == 1
    assert done.counts["unreadable"] == 1
    assert any(one.key.startswith("twins:") for one in done.findings)
    assert done.written == ["audit.json", "files.csv", "report.html"]


def one_class(folder):
    return write_table(folder / "data.csv", write_set(folder, lambda patient: "a"))


def one_patient(folder):
    rows = write_set(folder, halves)
    return write_table(folder / "data.csv", [row | {"patient": "p"} for row in rows])


def half_filled(folder):
    rows = write_set(folder, halves)
    return write_table(folder / "data.csv", [row | {"patient": row["patient"] * (n % 2)} for n, row in enumerate(rows)])


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (one_class, "1 class"),
        (one_patient, "two at least"),
        (half_filled, "have no patient"),
        (lambda f: f / "no", "no such"),
    ],
)
def test_data_that_cannot_be_audited_is_refused_and_nothing_is_written(tmp_path, make, fault):
    with pytest.raises(DataError, match=fault):
        audit(make(tmp_path / "set"), tmp_path / "audit", progress=False)
    assert not (tmp_path / "audit").exists()


def test_other_folders_are_left_alone(audited, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    for folder in (tmp_path / "full", audited.folder, tmp_path / "full" / "thesis.tex"):
        with pytest.raises(DataError, match=r"name a (new )?folder"):
            audit(tmp_path, folder, progress=False)
    with pytest.raises(DataError, match=r"no audit\.json"):
        audit(tmp_path, tmp_path / "new", baseline=tmp_path / "full" / "thesis.tex", progress=False)


def test_a_finding_is_no_more_than_it_says():
    one = Finding("tells:border", "text", True)
    assert accepted([one], {"tells:border": "cropped"})[0].accepted == "cropped"
    assert accepted([one], {"tells:other": "cropped"}) == [one]
