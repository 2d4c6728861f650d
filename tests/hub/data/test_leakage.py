"""Near-duplicates under another name: kept together where a split is drawn, refused where a table decides it."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from PIL import Image

from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.data.dataset import read_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError
from usbackbones.data.leakage import copies_among, together, told


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder of two classes with a still of each of sixteen patients; p00's is there again, mirrored and smaller."""
    folder = tmp_path_factory.mktemp("planted")
    for patient in range(16):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(exist_ok=True)
        still = Image.fromarray(phantom_clip(patient, frames=1, size=96, kind=kind)[0])
        still.save(folder / kind / f"p{patient:02d}_0.png")
        if patient == 0:
            small = still.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((80, 80))
            small.save(folder / kind / "p99_0.jpg")
    return folder


@pytest.fixture
def table(planted, tmp_path):
    """The same as a CSV whose parts put the copy on the other side."""
    rows = ["path,label,group,split"]
    for number, file in enumerate(sorted(planted.rglob("p*.*g"), key=lambda file: file.name)):
        part = "test" if file.name.startswith("p99") else ("train", "train", "validation", "test")[number // 2 % 4]
        rows.append(f"{file},{file.parent.name},{file.name[:3]},{part}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path / "table.csv"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from usbackbones.hub.timm_folder import timm_config, write_timm_folder

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0)
    folder = tmp_path_factory.mktemp("model")
    shown = {"tag": "t", "size": 64, "mean": [0.3] * 3, "std": [0.25] * 3, "interpolation": "bilinear"}
    shown |= {"licence": "CC0-1.0", "origin_url": "", "description": "untrained"}
    write_timm_folder(folder, network.state_dict(), timm_config(network, arch="test_resnet", model_args={}, **shown))
    return f"local-dir:{folder}"


def test_they_are_found_across_groups_and_joined(planted, tmp_path):
    items = read_items(planted, "^(p[0-9]+)_")
    frames = Frames(items, tmp_path / "frames.u8", 1, progress=False)
    pairs = copies_among(items, frames)
    assert [{items[one].group, items[other].group} for one, other in pairs] == [{"p00", "p99"}]
    whole = together(items, pairs)
    assert {item.group for item in whole if item.path.stem in ("p00_0", "p99_0")} == {"p00"}
    assert [item.path for item in whole] == [item.path for item in items]
    assert len({item.group for item in whole}) == 16
    assert "p00_0.png = p99_0.jpg" in told(items, pairs) and told(items, []) == ""
    assert copies_among([replace(item, group="same") for item in items], frames) == []


def test_parts_of_a_table_that_divide_them_are_refused(table, tmp_path):
    items = read_items(table)
    pairs = copies_among(items, Frames(items, tmp_path / "frames.u8", 1, progress=False))
    with pytest.raises(DataError, match=r"1 pair of near-duplicates on both sides of the split: p00_0.png = p99_0"):
        together(items, pairs)


@pytest.mark.parametrize("command", [["finetune", "--epochs", "1"], ["probe"]])
def test_both_commands_refuse_them_in_a_table_and_join_them_in_a_folder(
    planted, table, model, tmp_path, capsys, command
):
    name, *options = command
    with pytest.raises(SystemExit) as stop:
        cli.main([name, str(table), *options, "--model", model, "-o", str(tmp_path / "refused")])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "1 pair of near-duplicates on both sides" in err and "Traceback" not in err
    assert not (tmp_path / "refused" / "metrics.json").exists()
    given = [name, str(planted), *options, "--group-from", "^(p[0-9]+)_", "--model", model]
    cli.main([*given, "-o", str(tmp_path / "joined")])
    assert "kept together: p00_0.png = p99_0.jpg" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "joined" / "metrics.json").read_text())
    assert metrics["joined"].startswith("1 pair of near-duplicates")
    groups = [row.split(",")[1] for row in (tmp_path / "joined" / "predictions.csv").read_text().splitlines()[1:]]
    assert groups and "p99" not in groups


@pytest.mark.parametrize("command", [["finetune", "--epochs", "1"], ["probe"]])
@pytest.mark.parametrize("first", ["train", "validation"])
def test_both_commands_refuse_a_patient_on_both_sides(planted, model, tmp_path, capsys, command, first):
    files = sorted(planted.rglob("p*.png"), key=lambda file: file.name)
    parts = ["train", "train", "validation", "validation", "test", "test"]
    rows = [f"{file},{file.parent.name},{file.name[:3]},{parts[n % 6]}" for n, file in enumerate(files)]
    leak = next(n for n, row in enumerate(rows) if row.endswith(first))
    Image.fromarray(phantom_clip(50, frames=1, size=96)[0]).save(tmp_path / "another.png")
    rows.append(f"another.png,{files[leak].parent.name},{files[leak].name[:3]},test")
    (tmp_path / "leak.csv").write_text("\n".join(["path,label,group,split", *rows]))
    name, *options = command
    with pytest.raises(SystemExit) as stop:
        cli.main([name, str(tmp_path / "leak.csv"), *options, "--model", model, "-o", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and "stand on both sides" in err and files[leak].name[:3] in err
