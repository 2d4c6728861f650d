"""What the README tells people to type is typed here: on phantoms, in an empty folder."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tests import pages
from tests.conftest import REPOSITORY
from tests.hub.clips.test_read import write_video
from tests.pages import clip_file, dicom_archive, labelled, masked, patients_told, run_line, still_of
from tests.phantoms import phantom_clip

README = pages.page_text("README.md")


def block(mark: str) -> str:
    """The only block of Python under a mark."""
    (code,) = pages.steps(pages.marked("README.md", mark))
    assert isinstance(code, str)
    return code


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a block of Python in a folder; what it prints."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    pages.run_code(code, "README.md", {})
    return capsys.readouterr().out


def commands(mark: str) -> list[list[str]]:
    """The command lines of a block."""
    return pages.commands(pages.marked("README.md", mark))


def test_from_a_labelled_folder_to_predictions(tmp_path):
    """Every line of the block in its order: audit, probe, finetune, predict, evaluate, export."""
    labelled(tmp_path / "DATA", 24)
    labelled(tmp_path / "EXTERNAL", 8, start=60)
    clip_file(tmp_path / "CLIPS")
    lines = commands("day")
    assert [words[1] for words in lines] == ["audit", "probe", "finetune", "predict", "evaluate", "export"]
    for words in lines:
        run_line(words, tmp_path)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert len(rows) == 3 and rows[0]["prediction"] in ("abdomen", "heart")
    for written in ("audit/report.html", "tuned/metrics.json", "predictions.clips.csv", "tuned.onnx"):
        assert (tmp_path / written).is_file()
    assert list((tmp_path / "evaluation").iterdir())


def test_from_masks_to_masks(tmp_path):
    """The two lines on segmentation."""
    masked(tmp_path / "DATA")
    (tmp_path / "CLIPS").mkdir()
    Image.fromarray(still_of(90)).save(tmp_path / "CLIPS" / "still.png")
    for words in commands("masks"):
        run_line(words, tmp_path)
    assert list((tmp_path / "masks").rglob("*.png"))


def test_your_own_archive(tmp_path, monkeypatch):
    """Every line from a folder of DICOM files to features and views; nothing of a header is kept."""
    dicom_archive(tmp_path / "ARCHIVE")
    monkeypatch.setenv("USBACKBONES_SALT", "a salt of this test")
    lines = commands("archive")
    assert len(lines) == 5
    (views,) = re.findall(r"`(python -m training\.show_views [^`]+)`", README)
    lines.append(shlex.split(views))
    told = "".join(run_line(words, tmp_path) for words in lines).encode()
    assert (tmp_path / "runs" / "mine" / "summary.json").is_file() and (tmp_path / "features.npz").is_file()
    assert (tmp_path / "sheet.png").is_file()
    written = {file.name for file in tmp_path.rglob("*") if file.suffix != ".dcm"}
    assert {"mine.csv", "index.json", "report.json", "metrics.jsonl", "model.safetensors"} <= written
    assert patients_told(told, tmp_path) == []


def test_load_and_read_a_clip(tmp_path, monkeypatch):
    """The first block, and the one of clips and features, which goes on with its model."""
    write_video(tmp_path / "clip.mp4", phantom_clip(0, frames=5, size=64), "libx264", "yuv420p")
    monkeypatch.chdir(tmp_path)
    names = {}
    for mark in ("load", "clips"):
        pages.run_code(block(mark), "README.md", names)
    assert names["model"].num_classes == 3 and names["features"].shape == (5, 512)
    image = names["transform"](names["clip"].frames[0])
    assert image.shape == names["model"].pretrained_cfg["input_size"]


def test_read_in_three_minutes():
    """What stands above the appendix, tables and code counted."""
    assert len(README.split("## Appendix")[0].split()) < 900


def test_fine_tune_on_your_data(tmp_path, monkeypatch, capsys):
    """The block of Python, on small stills of phantoms, for an epoch."""
    labelled(tmp_path / "DATA", 24)
    code = block("finetune")
    assert len(code.splitlines()) <= 33
    short = code.replace("epochs=20,", "epochs=1, search=False,").replace("group_from=", "size=64, group_from=")
    assert short.count("search=False") == short.count("size=64") == 1
    printed = run(short, tmp_path, monkeypatch, capsys)
    assert "'low'" in printed
    assert len(printed.splitlines()) == 1 + 2 * 5
    assert (tmp_path / "tuned" / "model.safetensors").is_file()


def test_segment(tmp_path, monkeypatch, capsys):
    """The block of Python, on stills of phantoms under a mask of what is bright, for one epoch."""
    masked(tmp_path / "DATA")
    code = block("segment")
    assert len(code.splitlines()) <= 15
    short = code.replace("size=224, epochs=30", "size=64, epochs=1")
    assert short != code
    printed = run(short, tmp_path, monkeypatch, capsys)
    assert "'low'" in printed and "torch.Size([1, 1, 64, 64])" in printed
    assert (tmp_path / "segmenter" / "overlay.png").is_file()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (REPOSITORY / path).exists()
