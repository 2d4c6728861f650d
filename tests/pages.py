"""Run what a Markdown page tells people to type, and make the simulated clips and stills that its lines are given."""

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import REPOSITORY, run_module
from tests.hub.clips.dicom.dicom_files import speckle, write_dicom
from tests.phantoms import phantom_clip

SHORT: Mapping[str, Sequence[str]] = {
    "training.pretrain": ("--steps", "2", "--batch", "4", "--augment.size", "32", "--checkpoint-every", "2"),
    "finetune": ("--epochs", "1", "--size", "64", "--lr", "1e-3"),
    "segment": ("--epochs", "1", "--size", "64"),
    "probe": ("--folds", "2", "--repeats", "1"),
}
"""Arguments that shorten what a command fits, nothing else."""


def page_text(path: str) -> str:
    """A page of the repository."""
    return (REPOSITORY / path).read_text(encoding="utf-8")


BLOCK = re.compile(r"^(?P<fence>```|~~~).*?\n(?:.*\n)*?(?P=fence)$|^(?:(?: {4}|\t).*\n)+", re.MULTILINE)
MARKED = re.compile(r"<!-- (?P<name>\w+), run by (?P<file>\S+) -->(?P<body>.*?)<!-- end -->", re.DOTALL)
STEP = re.compile(r"^```python\n(?P<code>.+?)^```|^    (?P<line>\S(?:[^\n]*\\\n)*[^\n]+)$", re.DOTALL | re.MULTILINE)


def steps(text: str) -> list[list[str] | str]:
    """What a text shows, in its order: a block of Python as a text, a command line as a list of words.

    A command line is indented by four spaces and goes on after a backslash; its comment is left out.
    """
    return [
        found["code"] or shlex.split(found["line"].replace("\\\n", " "), comments=True) for found in STEP.finditer(text)
    ]


def commands(text: str) -> list[list[str]]:
    """The command lines of a text."""
    return [step for step in steps(text) if isinstance(step, list)]


def marked(page: str, name: str) -> str:
    """What stands between `<!-- NAME, run by FILE -->` and `<!-- end -->` on a page, which a test of that file runs."""
    (body,) = (found["body"] for found in MARKED.finditer(page_text(page)) if found["name"] == name)
    return body


def unmarked(text: str) -> list[str]:
    """The blocks of a text, fenced or indented, that no mark says a test of."""
    return [found[0] for found in BLOCK.finditer(MARKED.sub("", text))]


def run_line(words: list[str], folder: Path) -> str:
    """Run `usbackbones ...` or `python -m ...` in a folder, shortened where it fits; what it prints."""
    module, rest = (words[2], words[3:]) if words[0] == "python" else ("usbackbones", words[1:])
    done = run_module(module, *rest, *SHORT.get(module if words[0] == "python" else rest[0], ()), folder=folder)
    assert done.returncode == 0, f"{words}: {done.stderr[-3000:]}"
    return done.stdout + done.stderr


def run_code(code: str, page: str, names: dict[str, object]) -> None:
    """Run a block of Python in this process and its folder; it goes on with `names` and leaves its own there."""
    names.setdefault("__name__", "page")
    exec(compile(code, page, "exec"), names)


def labelled(folder: Path, patients: int, start: int = 0) -> None:
    """Stills of phantoms, two classes, a still a patient."""
    for patient in range(start, start + patients):
        kind = ("abdomen", "heart")[patient % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(still_of(patient, kind)).save(folder / kind / f"p{patient:02d}_0.png")


def masked(folder: Path, patients: int = 10, start: int = 0) -> None:
    """Stills of phantoms, a patient each, under a mask of what is bright."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for patient in range(start, start + patients):
        frame = still_of(patient)
        Image.fromarray(frame).save(folder / "images" / f"p{patient}.png")
        Image.fromarray((frame > 128).astype("uint8") * 255).save(folder / "masks" / f"p{patient}.png")


def still_of(patient: int, kind: str | None = None) -> np.ndarray:
    """A still of a phantom, uint8 [64, 64]."""
    return phantom_clip(patient, frames=1, size=64, kind=kind)[0]


def clip_file(folder: Path) -> None:
    """A clip of three frames, `clip.gif`."""
    folder.mkdir(parents=True, exist_ok=True)
    first, *others = [Image.fromarray(frame) for frame in phantom_clip(90, frames=3, size=64)]
    first.save(folder / "clip.gif", save_all=True, append_images=others)


def dicom_archive(folder: Path) -> None:
    """Six studies of a clip each, with names and numbers of patients in their headers."""
    for patient in range(6):
        file = folder / f"study{patient}" / "clip.dcm"
        file.parent.mkdir(parents=True)
        write_dicom(file, speckle(6, seed=patient), PatientID=f"Clinic-{patient}", PatientName="Doering^Jane")


def patients_told(told: bytes, folder: Path) -> list[str]:
    """Where a patient of `dicom_archive` is named: in what was printed, or in a written file of the folder."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".dcm"]
    written = {str(file): file.read_bytes() for file in files}
    names = (b"Doering", b"^Jane", b"Clinic-")
    return [place for place, held in {"printed": told, **written}.items() if any(name in held for name in names)]


def copy_clone(folder: Path) -> None:
    """Copy what a wheel is built from, and the two folders beside it that must not get into it."""
    folder.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("usbackbones", "training", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
