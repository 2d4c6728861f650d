"""What the README tells people to type is typed here: on phantoms, in an empty folder."""

import re
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


def test_your_own_archive(tmp_path, monkeypatch):
    """Three commands from a folder of DICOM files to a backbone; the recipe is shortened, nothing else."""
    for patient in range(6):
        file = tmp_path / "ARCHIVE" / f"study{patient}" / "clip.dcm"
        file.parent.mkdir(parents=True)
        write_dicom(file, speckle(6, seed=patient), PatientID=f"Clinic-{patient}", PatientName="Doering^Jane")
    lines = re.findall(r"^    (python .+)$", after("archive"), re.MULTILINE)[:3]
    short = ["--steps", "2", "--batch", "4", "--augment.size", "32", "--checkpoint-every", "2"]
    monkeypatch.setenv("USBACKBONES_SALT", "a salt of this test")
    told = b""
    for number, line in enumerate(lines):
        _, _, module, *arguments = line.split()
        done = run_module(module, *arguments, *(short if number == 2 else []), folder=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        told += f"{done.stdout}{done.stderr}".encode()
    assert (tmp_path / "runs" / "mine" / "summary.json").is_file()
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".dcm"]
    assert {"mine.csv", "index.json", "report.json", "metrics.jsonl"} <= {file.name for file in written}
    for name in (b"Doering", b"^Jane", b"Clinic-"):
        assert name not in told and not [file for file in written if name in file.read_bytes()]


def test_fine_tune_on_your_data(tmp_path, monkeypatch, capsys):
    """The block of Python, on stills of phantoms, for two epochs."""
    for patient in range(24):
        kind = ("abdomen", "heart")[patient % 2]
        (tmp_path / "DATA" / kind).mkdir(parents=True, exist_ok=True)
        frame = phantom_clip(patient, frames=1, size=64, kind=kind)[0]
        Image.fromarray(frame).save(tmp_path / "DATA" / kind / f"p{patient:02d}_0.png")
    code = re.search(r"```python\n(.+?)```", after("finetune"), re.DOTALL)
    assert code
    assert len(code[1].splitlines()) <= 33
    printed = run(code[1].replace("epochs=20", "epochs=2, head_epochs=1"), tmp_path, monkeypatch, capsys)
    assert "'low'" in printed
    assert len(printed.splitlines()) == 1 + 2 * 5
    assert (tmp_path / "tuned" / "model.safetensors").is_file()


def test_segment(tmp_path, monkeypatch, capsys):
    """The block of Python, on stills of phantoms under a mask of what is bright, for one epoch."""
    for folder in ("images", "masks"):
        (tmp_path / "DATA" / folder).mkdir(parents=True)
    for patient in range(10):
        frame = phantom_clip(patient, frames=1, size=64)[0]
        Image.fromarray(frame).save(tmp_path / "DATA" / "images" / f"p{patient}.png")
        Image.fromarray((frame > 128).astype("uint8") * 255).save(tmp_path / "DATA" / "masks" / f"p{patient}.png")
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
