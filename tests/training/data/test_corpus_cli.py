"""The command: known datasets merged, a folder guessed, a manifest checked; and what may not be pretrained on."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run_module
from tests.hub.clips.dicom.dicom_files import speckle, write_dicom
from training.data.corpora import CORPORA
from training.data.corpus.guess import guess_manifest
from training.data.corpus.known import main, merge, without_locked_test
from training.data.errors import CorpusError
from training.data.locked_splits import SPLITS, draw, locked_split
from training.data.manifest import Row, read_manifest

REPOSITORY = Path(__file__).resolve().parents[3]


def image(file, size=(8, 6)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size, np.uint8)).save(file)
    return file


def dataset(root, name):
    """A made-up folder of hc18 or timtrack_muscle that has every group of its locked split."""
    groups = sorted(group for part in locked_split(name).values() for group in part)
    if name == "hc18":
        for group in groups:
            image(root / name / "image" / f"{group}_HC.jpg")
        return
    lines = ["path,group,subject,licence"]
    for number, group in enumerate(groups):
        image(root / name / group / "0.jpg")
        lines.append(f"{group}/0.jpg,{group},{group},{'CC0-1.0' if number % 2 else 'CC BY-NC 4.0'}")
    (root / name / "groups.csv").write_text("\n".join(lines))


def test_known_datasets_merge_without_their_locked_groups(tmp_path, capsys):
    dataset(tmp_path, "hc18")
    dataset(tmp_path, "timtrack_muscle")
    out = tmp_path / "all.csv"
    (tmp_path / "timtrack_muscle").rename(tmp_path / "elsewhere")
    main(["hc18", f"timtrack_muscle={tmp_path / 'elsewhere'}", "--root", str(tmp_path), "-o", str(out), "--tier", "nc"])
    rows = read_manifest(out)
    for name in ("hc18", "timtrack_muscle"):
        assert {row.group for row in rows if row.source == name} == set(locked_split(name)["pretrain"])
    assert len({row.clip for row in rows}) == len(rows) and str(len(rows)) in capsys.readouterr().out
    main(
        ["hc18", f"timtrack_muscle={tmp_path / 'elsewhere'}", "--root", str(tmp_path), "-o", str(out), "--tier", "open"]
    )
    opened = read_manifest(out)
    assert {row.licence for row in opened} == {"CC BY 4.0", "CC0-1.0"} and len(opened) < len(rows)


def test_what_is_kept_for_judging_is_refused_unless_asked_for(tmp_path, capsys):
    image(tmp_path / "busi" / "benign" / "benign (1).png")
    for label in ("malignant", "normal"):
        (tmp_path / "busi" / label).mkdir()
    arguments = ["busi", "--root", str(tmp_path), "-o", str(tmp_path / "busi.csv")]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "never pretrained on: busi" in capsys.readouterr().err and not (tmp_path / "busi.csv").exists()
    main([*arguments, "--judging"])
    assert [row.label for row in read_manifest(tmp_path / "busi.csv")] == ["benign"]


def test_own_sources_pass_the_lock_and_strangers_do_not():
    split = locked_split("hc18")
    own = [Row("p", "c", split["test"][0], source="our_hospital"), Row("p", "d", "g")]
    assert without_locked_test(own) == own
    known = [Row("p", g, g, source="hc18") for g in (split["test"][0], split["pretrain"][0])]
    assert without_locked_test(known + own) == known[1:] + own
    with pytest.raises(CorpusError, match="'ours' is on neither side of the locked split of hc18; give clips"):
        without_locked_test([*known, Row("p", "x", "ours", source="hc18")])
    with pytest.raises(CorpusError, match="busi, gallbladder_ba"):
        without_locked_test([Row("p", s, "g", source=s) for s in ("gallbladder_ba", "busi", "hc18")])


def test_a_group_is_a_source_and_a_name():
    rows = [Row("p", "a", "7", source="x"), Row("q", "b", "7", source="y")]
    assert merge([rows[:1], rows[1:]]) == rows
    with pytest.raises(CorpusError, match="name each dataset once"):
        merge([rows, rows[1:]])


def test_the_list_is_rendered_from_the_records(capsys):
    main(["--list"])
    shown = capsys.readouterr().out
    for corpus in CORPORA.values():
        for fact in (corpus.name, corpus.what, corpus.where, corpus.patient, corpus.layout):
            assert fact in shown
    busi = shown[shown.index("busi:") :].split("\n\n")[0]
    assert "pretraining  never" in busi and "licence      none stated" in busi


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing", "-o", "x.csv"], "no dataset named 'nothing' is known; there is: pocus_lung"),
        ([], "name at least one dataset"),
        (["hc18", "--root", "absent", "-o", "x.csv"], "get it from https://zenodo.org"),
        (["folder", "absent", "-o", "x.csv"], "absent"),
        (["check", "absent.csv"], "not a file"),
    ],
)
def test_a_wrong_command_ends_with_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert complaint in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_named(tmp_path, capsys):
    image(tmp_path / "mine" / "a.gif")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main(["folder", str(tmp_path / "mine"), "-o", str(tmp_path / "file" / "manifest.csv")])
    assert f"error: {tmp_path / 'file'} cannot be read or written (" in capsys.readouterr().err


def test_the_check_is_a_command_with_an_exit_code(tmp_path):
    (tmp_path / "bad.csv").write_text("path,clip,group,licence\na,1,P1,CC0\nb,1,p1,CC0\n")
    run = run_module("training.data.corpus", "check", tmp_path / "bad.csv")
    assert run.returncode == 1 and "2 rows, 4 faults, 0 notes" in run.stdout
    for place in ("line 2, column path", "line 3, column path", "line 3, column clip", "line 3, column group"):
        assert place in run.stdout


def archive(root):
    """A folder as people have them: patients in folders and in names, stills apart and in sequence, masks."""
    for frame in range(3):
        image(root / "lung" / "Patient 07" / "sweep" / f"frame{frame}.png")
        image(root / "lung" / "ward3" / "run_a" / f"{frame}.png")
    image(root / "lung" / "ward3" / "b.gif")
    image(root / "Liver" / "malignant" / "pat_12_left.gif")
    image(root / "Liver" / "benign" / "x" / "P12.gif")
    image(root / "thyroid" / "benign" / "s1.png", (8, 6))
    image(root / "thyroid" / "benign" / "s1_mask.png", (8, 6))
    image(root / "thyroid" / "benign" / "other.png", (9, 6))
    image(root / "alone.gif")
    return root


def test_a_manifest_that_was_corrected_by_hand_is_not_written_over(tmp_path):
    folder, out = archive(tmp_path / "mine"), tmp_path / "mine.csv"
    for _ in range(2):  # the same again is no loss
        main(["folder", str(folder), "-o", str(out)])
    corrected = out.read_text().replace("mine", "clinic", 1)
    out.write_text(corrected)
    with pytest.raises(SystemExit):
        main(["folder", str(folder), "-o", str(out)])
    assert out.read_text() == corrected


def test_a_folder_is_guessed_and_the_guesses_are_told(tmp_path, capsys):
    out = tmp_path / "manifest.csv"
    main(["folder", str(archive(tmp_path / "mine")), "-o", str(out), "--licence", "CC BY 4.0"])
    shown = capsys.readouterr().out
    rows = {row.clip: row for row in read_manifest(out)}
    assert {clip: (row.group, row.organ, row.label) for clip, row in rows.items()} == {
        "alone.gif": ("alone", "", ""),
        "Liver/benign/x/P12.gif": ("patient12", "liver", "benign"),
        "Liver/malignant/pat_12_left.gif": ("patient12", "liver", "malignant"),
        "lung/Patient 07/sweep": ("patient7", "lung", ""),
        "lung/ward3/b.gif": ("lung/ward3", "lung", ""),
        "lung/ward3/run_a": ("lung/ward3", "lung", ""),
        "thyroid/benign/other.png": ("thyroid/benign/other", "thyroid", "benign"),
        "thyroid/benign/s1.png": ("subject1", "thyroid", "benign"),
    }
    assert {row.source for row in rows.values()} == {"mine"} and {row.licence for row in rows.values()} == {"CC BY 4.0"}
    assert [Path(mask).name for mask in rows["thyroid/benign/s1.png"].masks] == ["s1_mask.png"]
    for told in (
        "groups  6",
        "3 by a name like a patient's (4 clips)",
        "2 by nothing but its own name (2 clips)",
        "1 by its folder (2 clips)",
        "labels  of clips: none named 4, benign 3, malignant 1",
        "2 folders of images",
        "masks   beside 1 of 8 clips",
    ):
        assert told in shown
    with out.open(newline="") as stream:
        notes = {record["clip"]: record["note"] for record in csv.DictReader(stream)}
    assert "its folder" in notes["lung/ward3/b.gif"] and "nothing but its own name" in notes["alone.gif"]


def test_stills_of_one_folder_can_be_set_apart(tmp_path):
    for number in range(3):
        image(tmp_path / "scans" / f"{number}.png")
    assert [row.path for row in guess_manifest(tmp_path).rows] == [str(tmp_path / "scans")]
    apart = guess_manifest(tmp_path, apart=True).rows
    assert [Path(row.path).name for row in apart] == ["0.png", "1.png", "2.png"]
    assert {row.group for row in apart} == {"scans"}
    assert [row.path for row in guess_manifest(tmp_path / "scans" / "1.png").rows] == [
        str(tmp_path / "scans" / "1.png")
    ]


def test_a_lock_is_drawn_once_and_can_be_drawn_from_a_manifest(shared_data):
    rows = [vars(row) for row in CORPORA["hc18"].rows(shared_data / "hc18")]
    committed = json.loads((SPLITS / "hc18.json").read_text())
    assert {"dataset": "hc18", **draw(rows, committed["fraction"], committed["seed"])} == committed
    run = run_module("training.data.locked_splits", "any.csv", "--name", "hc18")
    assert run.returncode == 1 and "drawn once" in run.stderr


def test_the_patients_of_dicom_files_are_groups(tmp_path, monkeypatch):
    """Two files of one patient in folders of other names are one group; the patient's own id is nowhere."""
    monkeypatch.setenv("USBACKBONES_SALT", "a salt of this test")
    for number, patient in enumerate(("ID-4711", "ID-4711", "ID-0815")):
        file = tmp_path / "archive" / f"ward{number}" / f"{number}.dcm"
        file.parent.mkdir(parents=True)
        write_dicom(file, speckle(2), PatientID=patient)
    main(["folder", str(tmp_path / "archive"), "-o", str(tmp_path / "manifest.csv")])
    groups = [row.group for row in read_manifest(tmp_path / "manifest.csv")]
    assert groups[0] == groups[1] != groups[2]
    assert "ID-" not in (tmp_path / "manifest.csv").read_text()


def test_bare_dicom_of_one_patient_is_one_group(tmp_path, monkeypatch):
    monkeypatch.setenv("USBACKBONES_SALT", "a salt of this test")
    for folder in ("d1", "d2"):
        (tmp_path / "archive" / folder).mkdir(parents=True)
        write_dicom(tmp_path / "archive" / folder / "image", speckle(2), PatientID="ID-4711", meta=False)
    guess = guess_manifest(tmp_path / "archive")
    assert len({row.group for row in guess.rows}) == 1 and "1 by the DICOM header (2 clips)" in guess.summary
    assert guess.summary.startswith("guessed from names and DICOM headers")


@pytest.mark.skipif(sys.platform != "linux", reason="only there is a file that not even root can read")
def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    image(tmp_path / "d1" / "clip.gif")
    (tmp_path / "d1" / "locked.dcm").symlink_to("/proc/self/mem")
    guess = guess_manifest(tmp_path)
    assert [row.group for row in guess.rows] == ["d1", "d1"]
    assert "closed  1 file," in guess.summary and "d1/locked.dcm cannot be opened" in guess.summary
    assert "cannot be opened" not in guess.notes[0] and "cannot be opened" in guess.notes[1]
