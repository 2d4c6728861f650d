"""The whole commands on trees of several kinds: same result whatever the order of files, patients counted and named."""

import csv
import re

import numpy as np
import pytest
from PIL import Image

from tests.hub.data.trees import listed_in_another_order, noise, shuffle_rows, write_image
from usbackbones.cli import main as cli

SMALL = ["--model", "random:test_resnet", "--size", "32"]
COMMANDS = {
    "finetune": ["finetune", *SMALL, "--epochs", "1", "--lr", "0.01"],
    "probe": ["probe", *SMALL, "--folds", "2", "--per-clip", "1"],
    "segment": ["segment", *SMALL, "--epochs", "1", "--test", "0.3", "--validation", "0.3"],
}


def column(folder):
    """A table whose column tells two files of each patient, of which one is listed twice."""
    rows = []
    for number in range(24):
        file = write_image(folder / f"{number}.png", noise(number))
        rows.append(f"{file.name},{file.name},{'ab'[number % 2]},p{number // 2 % 6}{'ab'[number % 2]}")
    mask = folder / "mask.png"
    Image.fromarray(np.uint8(noise(0) > 128) * 255).save(mask)
    lines = [f"{row},{mask.name}" for row in [*rows, rows[3]]]
    (folder / "t.csv").write_text("\n".join(["path,image,label,patient_id,mask", *lines]))
    return folder / "t.csv", [], "12 patients, by the column patient_id", r"[0-9]+\.png"


def headers(folder):
    """Class folders of DICOM files, their masks beside them; a link that leads back."""
    for number in range(24):
        file = write_image(folder / "ab"[number % 2] / f"IM{number:02d}.dcm", noise(number), f"P{number % 12}")
        Image.fromarray(np.uint8(noise(0) > 128) * 255).save(file.with_name(f"{file.stem}_mask.png"))
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    return folder, [], "12 patients, by the DICOM header", r"IM[0-9]+\.dcm"


def names(folder):
    """Class folders of stills whose names tell the patient, with litter and a file that is no clip."""
    for number in range(24):
        file = write_image(folder / "ab"[number % 2] / f"p{number % 12}_{number}.png", noise(number))
        Image.fromarray(np.uint8(noise(0) > 128) * 255).save(file.with_name(f"{file.stem}_mask.png"))
    (folder / "a" / ".DS_Store").write_bytes(b"\0")
    (folder / "b" / "notes.txt").write_text("no clip")
    return folder, ["--group-from", "^(p[0-9]+)_"], "12 groups, by file names", r"p[0-9]+_[0-9]+\.png"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("build", [column, headers, names])
def test_the_order_of_files_changes_no_result(tmp_path, capsys, monkeypatch, command, build):
    monkeypatch.setenv("USBACKBONES_SALT", "drawn by chance")
    folder = tmp_path / "data"
    folder.mkdir()
    data, options, patients, name = build(folder)
    told, rows = [], []
    for number in range(2):
        out = tmp_path / f"out{number}"
        with listed_in_another_order(number):
            cli.main([*COMMANDS[command], str(data), *options, "-o", str(out)])
        shown = capsys.readouterr()
        told.append((shown.out.replace(str(out), ""), [line for line in shown.err.splitlines() if "note: " in line]))
        rows.append((out / "predictions.csv").read_text())
        if data.is_file():
            shuffle_rows(data, 1)
    assert told[0] == told[1] and rows[0] == rows[1]
    notes = "\n".join(told[0][1])
    assert f"note: {patients}" in notes
    assert ("1 name of files that were named before, which count once: 3.png" in notes) == (build is column)
    assert ("passed over 1 file" in notes and "notes.txt" in notes) == (build is names)
    groups = {}
    for row in csv.DictReader(rows[0].splitlines()):
        assert re.fullmatch(name, row["path"].rsplit("/", 1)[1])
        groups.setdefault(row.get("part", "test"), set()).add(row["group"])
    assert not set.intersection(*groups.values()) or len(groups) == 1
    assert re.search(rf"over [0-9]+ {patients.split(',')[0].split()[1]}", told[0][0])
