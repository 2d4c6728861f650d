"""What the README tells people to type is typed here: on phantoms, in an empty folder."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY, run_module
from tests.hub.clips.dicom.dicom_files import speckle, write_dicom
from usbackbones.phantom.simulator import phantom_clip

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MARK = "<!-- {}, run by tests/test_readme.py -->"


def after(mark: str) -> str:
    return README[README.index(MARK.format(mark)) :]


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a block of Python in a folder; what it prints."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    return capsys.readouterr().out


def commands(mark: str) -> list[list[str]]:
    """The command lines of a block, each as a list of words without its comment."""
    block = after(mark).split("<!-- end -->")[0]
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (\S.+)$", block, re.MULTILINE)]


def run_line(words: list[str], folder: Path) -> str:
    """Run `usbackbones ...` or `python -m ...` in a folder, shortened where it trains; what it prints."""
    module, rest = (words[2], words[3:]) if words[0] == "python" else ("usbackbones", words[1:])
    done = run_module(module, *rest, *SHORT.get(module if words[0] == "python" else rest[0], ()), folder=folder)
    assert done.returncode == 0, f"{words}: {done.stderr[-3000:]}"
    return done.stdout + done.stderr


SHORT = {
    "training.pretrain": ("--steps", "2", "--batch", "4", "--augment.size", "32", "--checkpoint-every", "2"),
    "finetune": ("--epochs", "1", "--size", "64", "--lr", "1e-3"),
    "segment": ("--epochs", "1", "--size", "64"),
}
"""Arguments that shorten the training of a command, nothing else."""


def labelled(folder: Path, patients: int, start: int = 0) -> None:
    """Stills of phantoms, two classes, a still a patient."""
    for patient in range(start, start + patients):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        frame = phantom_clip(patient, frames=1, size=64, kind=kind)[0]
        Image.fromarray(frame).save(folder / kind / f"p{patient:02d}_0.png")


def test_from_a_labelled_folder_to_predictions(tmp_path):
    """Every line of the block in its order: audit, probe, finetune, predict, evaluate, export."""
    labelled(tmp_path / "DATA", 24)
    labelled(tmp_path / "EXTERNAL", 8, start=60)
    (tmp_path / "CLIPS").mkdir()
    first, *others = [Image.fromarray(frame) for frame in phantom_clip(90, frames=3, size=64)]
    first.save(tmp_path / "CLIPS" / "clip.gif", save_all=True, append_images=others)
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
    Image.fromarray(phantom_clip(90, frames=1, size=64)[0]).save(tmp_path / "CLIPS" / "still.png")
    for words in commands("masks"):
        run_line(words, tmp_path)
    assert list((tmp_path / "masks").rglob("*.png"))


def test_your_own_archive(tmp_path, monkeypatch):
    """Every line from a folder of DICOM files to features by a backbone of one's own; nothing of a header is kept."""
    for patient in range(6):
        file = tmp_path / "ARCHIVE" / f"study{patient}" / "clip.dcm"
        file.parent.mkdir(parents=True)
        write_dicom(file, speckle(6, seed=patient), PatientID=f"Clinic-{patient}", PatientName="Doering^Jane")
    monkeypatch.setenv("USBACKBONES_SALT", "a salt of this test")
    lines = commands("archive")
    assert len(lines) == 5
    told = "".join(run_line(words, tmp_path) for words in lines).encode()
    assert (tmp_path / "runs" / "mine" / "summary.json").is_file() and (tmp_path / "features.npz").is_file()
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".dcm"]
    assert {"mine.csv", "index.json", "report.json", "metrics.jsonl", "model.safetensors"} <= {f.name for f in written}
    for name in (b"Doering", b"^Jane", b"Clinic-"):
        assert name not in told and not [file for file in written if name in file.read_bytes()]


def masked(folder: Path) -> None:
    """Stills of phantoms, a patient each, under a mask of what is bright."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for patient in range(10):
        frame = phantom_clip(patient, frames=1, size=64)[0]
        Image.fromarray(frame).save(folder / "images" / f"p{patient}.png")
        Image.fromarray((frame > 128).astype("uint8") * 255).save(folder / "masks" / f"p{patient}.png")


def test_read_in_three_minutes():
    """What stands above the appendix, tables and code counted."""
    assert len(README.split("## Appendix")[0].split()) < 900


def test_fine_tune_on_your_data(tmp_path, monkeypatch, capsys):
    """The block of Python, on stills of phantoms, for two epochs."""
    labelled(tmp_path / "DATA", 24)
    code = re.search(r"```python\n(.+?)```", after("finetune"), re.DOTALL)
    assert code
    assert len(code[1].splitlines()) <= 33
    printed = run(code[1].replace("epochs=20", "epochs=2, head_epochs=1"), tmp_path, monkeypatch, capsys)
    assert "'low'" in printed
    assert len(printed.splitlines()) == 1 + 2 * 5
    assert (tmp_path / "tuned" / "model.safetensors").is_file()


def test_segment(tmp_path, monkeypatch, capsys):
    """The block of Python, on stills of phantoms under a mask of what is bright, for one epoch."""
    masked(tmp_path / "DATA")
    code = re.search(r"```python\n(.+?)```", after("segment"), re.DOTALL)
    assert code and len(code[1].splitlines()) <= 15
    short = code[1].replace("size=224, epochs=30", "size=64, epochs=1")
    assert short != code[1]
    printed = run(short, tmp_path, monkeypatch, capsys)
    assert "'low'" in printed and "torch.Size([1, 1, 64, 64])" in printed
    assert (tmp_path / "segmenter" / "overlay.png").is_file()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (REPOSITORY / path).exists()
