"""The command line: outputs, exit codes, one-line errors, batch jobs that go on."""

import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tests.conftest import Published, copy_package, python
from usbackbones.cli import main as cli
from usbackbones.cli.terminal import WIDTH, in_columns, network
from usbackbones.clips.read import read_clip
from usbackbones.features.extract import embed
from usbackbones.hub import registry
from usbackbones.hub.backbone import PLAIN_MEAN
from usbackbones.phantom.simulator import phantom_archive


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Four small mp4 clips of two patients."""
    folder = tmp_path_factory.mktemp("archive")
    phantom_archive(folder, 2, 2, frames=5, size=64)
    return folder


@pytest.fixture
def run(published, capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""

    def run_command(*args):
        code = 0
        try:
            cli.main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def refused(result, *parts):
    """Exit code 2, nothing on stdout, and a last line on stderr that holds every part."""
    code, out, err = result
    lines = err.splitlines()
    assert code == 2
    assert out == ""
    for part in parts:
        assert str(part) in lines[-1]
    return lines


def features_of(name, frames):
    model = timm.create_model(f"usbackbones/{name}", pretrained=True, num_classes=0, in_chans=1)
    return embed(model, frames)


def test_list(run, published):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "ARCH", "TAG", "TIER", "LICENSE", "MB"]
    by_name = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    size = f"{published.zoo['weights'][Published.resnet]['bytes'] / 1e6:.1f}"
    assert by_name[Published.resnet] == ["resnet18", "synthetic_open1", "open", "CC-BY-4.0", size]
    assert [name for name, cells in by_name.items() if "(default)" in cells] == [registry.default_name()]


def test_list_as_json(run, published):
    code, out, _ = run("list", "--json")
    assert code == 0
    assert json.loads(out)[Published.vit] == published.zoo["weights"][Published.vit]


@pytest.mark.parametrize("prefix", ["", "usbackbones/"])
def test_info(run, published, prefix):
    code, out, err = run("info", prefix + Published.resnet)
    entry = published.zoo["weights"][Published.resnet]
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"usbackbones/{Published.resnet}"
    for fact in (entry["sha256"], "64 x 64 px", "weights: CC-BY-4.0", "model.safetensors", "not published yet"):
        assert fact in out
    assert json.loads(run("info", prefix + Published.resnet, "--json")[1]) == entry


def test_an_unknown_weight_is_one_line_with_the_nearest_name(run, tmp_path, archive):
    for command in (
        ("info", "resnet18.syntetic_open1"),
        ("embed", archive, "-o", tmp_path / "a.npz", "--model", "resnet18.syntetic_open1"),
        ("demo", "-o", tmp_path / "a.png", "--model", "resnet18.syntetic_open1"),
    ):
        lines = refused(run(*command), "syntetic_open1", f"Did you mean 'usbackbones/{Published.resnet}'")
        assert len(lines) == 1
    assert not list(tmp_path.iterdir())


def test_embed(run, archive, tmp_path):
    out = tmp_path / "new" / "features.npz"
    code, told, err = run("embed", archive, "-o", out, "--model", f"usbackbones/{Published.vit}")
    assert code == 0
    assert err == f"usbackbones: note: passed over 1 file in {archive}, no clips: manifest.csv\n"
    assert told == f"{out}: features [20, 192] of 4 clips by usbackbones/{Published.vit}\n"
    clips = sorted(archive.glob("*.mp4"))
    with np.load(out) as saved:
        assert set(saved.files) == {"features", "frame", "name", "seconds", "source", "model"}
        assert saved["features"].dtype == np.float32
        assert str(saved["model"]) == f"usbackbones/{Published.vit}"
        assert saved["source"].tolist() == [str(clip) for clip in clips for _ in range(5)]
        assert saved["frame"].tolist() == [0, 1, 2, 3, 4] * 4
        expected = np.concatenate([features_of(Published.vit, read_clip(clip).frames) for clip in clips])
        assert expected.std(0).max() > 0.01
        np.testing.assert_allclose(saved["features"], expected, atol=1e-4)
    assert [path.name for path in out.parent.iterdir()] == ["features.npz"]


def test_embed_keeps_the_name_of_every_still(run, tmp_path):
    """Of a folder in natural order, with a stride, again from the cache, and of a zip; a video has none."""
    folder = tmp_path / "clip"
    folder.mkdir()
    names = ["a1.png", "a2.png", "a10.png", "b.png"]
    for name in reversed(names):
        Image.new("L", (64, 64), 40).save(folder / name)
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, f"inner/{name}")
    for clip, stride in ((folder, 1), (folder, 1), (folder, 3), (tmp_path / "zipped.zip", 1)):
        options = ("--stride", stride, "--cache", tmp_path / "cache", "--model", Published.vit)
        assert run("embed", clip, "-o", tmp_path / "a.npz", *options)[0] == 0
        with np.load(tmp_path / "a.npz") as saved:
            assert saved["name"].tolist() == names[::stride]
    assert read_clip(folder).names == tuple(names)


def test_embed_in_small_batches_with_a_stride(run, archive, tmp_path):
    clip, out = archive / "patient01_clip0.mp4", tmp_path / "a.npz"
    assert run("embed", clip, "--out", out, "--batch", 2, "--stride", 2, "--model", Published.vit)[0] == 0
    with np.load(out) as saved:
        assert saved["frame"].tolist() == [0, 2, 4]
        expected = features_of(Published.vit, read_clip(clip).frames[::2])
        np.testing.assert_allclose(saved["features"], expected, atol=1e-4)


def test_embed_takes_the_default_weight(run, archive, tmp_path):
    if registry.default_name() is None:
        pytest.skip("no weight is published, so none is the default")
    assert run("embed", archive / "patient01_clip0.mp4", "-o", tmp_path / "a.npz")[0] == 0
    with np.load(tmp_path / "a.npz") as saved:
        assert str(saved["model"]) == f"usbackbones/{registry.default_name()}"


def test_a_batch_goes_on_after_broken_clips_and_names_them(run, archive, tmp_path):
    sound = archive / "patient00_clip0.mp4"
    folder = tmp_path / "mixed"
    (folder / "stills").mkdir(parents=True)
    (folder / "sizes").mkdir()
    for i, size in enumerate((32, 32, 40)):
        Image.new("L", (size, size), 40 * i).save(folder / "sizes" / f"{i}.png")
        Image.new("L", (32, 32), 40 * i).save(folder / "stills" / f"{i}.png")
    (folder / "empty.avi").write_bytes(b"")
    (folder / "note.mp4").write_text("no video")
    (folder / "cut.mp4").write_bytes(sound.read_bytes()[:900])
    (folder / "readme.txt").write_text("passed over")
    out = tmp_path / "a.npz"
    code, told, err = run(
        "embed", folder, sound, tmp_path / "absent.mp4", sound, "-o", out, "--model", Published.resnet
    )
    assert code == 0
    assert "features [11, " in told
    assert "of 3 clips" in told
    lines = err.splitlines()
    assert len(lines) == 5 and lines[0].endswith(f"1 file in {folder}, no clips: readme.txt")
    for name in ("absent.mp4", "empty.avi", "note.mp4", "cut.mp4"):
        assert sum(line.startswith("usbackbones: skipped: ") and name in line for line in lines) == 1
    with np.load(out) as saved:
        stills = [str(folder / name) for name in ("sizes", "stills") for _ in range(3)]
        assert saved["source"].tolist() == [*stills, *[str(sound)] * 5]


def test_a_damaged_clip_gives_a_warning_and_its_frames(run, archive, tmp_path):
    stills = tmp_path / "clip"
    stills.mkdir()
    for i in range(3):
        Image.new("L", (32, 32), 40 * i).save(stills / f"{i}.png")
    (stills / "1.png").write_bytes((stills / "1.png").read_bytes()[:60])
    code, told, err = run("embed", stills, "-o", tmp_path / "a.npz", "--model", Published.resnet)
    assert code == 0
    assert "features [2, " in told
    assert err.startswith("usbackbones: warning: ")
    assert "1.png" in err


def test_nothing_left_fails_and_leaves_an_earlier_file_alone(run, tmp_path):
    out = tmp_path / "a.npz"
    out.write_bytes(b"from before")
    (tmp_path / "note.mp4").write_text("no video")
    (tmp_path / "void").mkdir()
    named = ["-o", out, "--model", Published.resnet]
    result = run("embed", tmp_path / "note.mp4", tmp_path / "void", tmp_path / "absent", *named)
    lines = refused(result, "nothing to embed", "3 clips skipped")
    assert len(lines) == 4
    assert out.read_bytes() == b"from before"
    refused(run("embed", *named), "nothing to embed")
    (line,) = refused(run("embed", tmp_path / "note.mp4", *named), "nothing to embed: ", "note.mp4: ")
    assert len(line) > len(f"usbackbones: nothing to embed: {tmp_path / 'note.mp4'}: ") + 10  # the reason


@pytest.mark.parametrize("name", ["short", "n" * 90])
def test_a_table_is_no_wider_than_a_terminal(name):
    rows = [["metric", "kNN", "linear"], [name, "0.500 [0.400, 0.600]", "1.000 (no interval)"]]
    lines = in_columns(rows, WIDTH)
    assert len(lines) == (2 if name == "short" else 4) and max(map(len, lines)) <= WIDTH
    cells = re.split(" {2,}", "  ".join(lines))
    assert cells == [cell for row in rows for cell in row]
    head, numbers = lines if name == "short" else lines[1::2]
    assert head.index("linear") == numbers.index("1.000") and head.index("kNN") == numbers.index("0.500")


def test_untrained_networks_are_seeded():
    first, again = (network("random:test_resnet") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    assert first.pretrained_cfg["mean"] == PLAIN_MEAN and first.num_classes == 0


def test_slips_are_one_line(run, archive, tmp_path):
    clip = archive / "patient00_clip0.mp4"
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").write_text("")
    for command, *parts in (
        (("embed", clip, "-o", tmp_path / "a.csv"), "a.csv", ".npz"),
        (("embed", clip, "-o", tmp_path / "folder.npz"), "folder.npz"),
        (("embed", clip, "-o", tmp_path / "a.npz", "--batch", 0), "--batch 0"),
        (("embed", clip, "-o", tmp_path / "a.npz", "--stride", -1), "--stride -1"),
        (("embed", clip, "-o", tmp_path / "file" / "a.npz", "--model", Published.resnet), "file"),
        (("demo", "-o", tmp_path / "a.jpeg"), "a.jpeg", ".png"),
        (("demo", "-o", tmp_path), tmp_path),
    ):
        assert len(refused(run(*command), *parts)) == 1


@pytest.mark.parametrize("command", [(), ("nope",), ("info",), ("embed", "a.mp4"), ("list", "--nope")])
def test_what_the_parser_refuses_exits_with_2(run, command):
    code, out, err = run(*command)
    assert code == 2
    assert out == ""
    assert "usbackbones" in err


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)])
def test_help_fits_a_screen(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*command, "--help")
    lines = out.splitlines()
    assert code == 0
    assert "usage: usbackbones" in lines[0]
    assert len(lines) <= 50 and max(map(len, lines)) <= 80
    if not command:
        assert all(f"• {name} " in out for name in cli.COMMANDS)
        assert all(f"{code} " in out for code in (0, 1, cli.REFUSED, cli.INTERRUPTED))
        assert "0 done, clips that could not be read were named and skipped" in " ".join(out.split())
    else:
        assert "--json" in out


def test_the_program_with_a_weight_from_a_folder(tmp_path, published, archive):
    copy_package(tmp_path, {Published.resnet: published.zoo["weights"][Published.resnet]})
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "USBACKBONES_HUB": str(published.folder)}
    command = [sys.executable, "-m", "usbackbones", "embed", str(archive / "patient00_clip0.mp4"), "-o", "a.npz"]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    with np.load(tmp_path / "a.npz") as saved:
        assert saved["features"].shape == (5, 512)
        assert str(saved["model"]) == f"usbackbones/{Published.resnet}"


def test_without_any_weight_and_what_help_loads(tmp_path, archive):
    """In a fresh interpreter: help needs nothing beyond the package, and an empty zoo is told in one line."""
    copy_package(tmp_path, {})
    code = f"""
import sys, usbackbones.cli.main
for args in (["--help"], ["list"], ["demo"], ["embed", {str(archive)!r}, "-o", "a.npz"]):
    print("###", *args)
    sys.stderr = sys.stdout
    try:
        usbackbones.cli.main.main(args)
    except SystemExit as stop:
        print("exit", stop.code)
    print("loaded", *sorted({{"av", "sklearn", "cv2", "matplotlib"}} & set(sys.modules)))
"""
    told = [part.splitlines() for part in python(code, tmp_path).split("### ")[1:]]
    assert told[0][-2:] == ["exit 0", "loaded"]
    assert told[1][1:] == ["No weights are published in this version of usbackbones.", "loaded"]
    for lines in told[2:]:
        assert lines[1].startswith("usbackbones: this version of usbackbones has no weights")
        assert lines[2] == "exit 2"
    assert not (tmp_path / "a.npz").exists()
