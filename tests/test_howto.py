"""Every command line and every block of Python of the how-to pages, run in its order on simulated clips."""

import csv
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests import notebook, pages
from tests.conftest import REPOSITORY, python
from tests.pages import clip_file, dicom_archive, labelled, masked, patients_told, still_of

HOWTO = REPOSITORY / "docs" / "howto"
PAGES = sorted(page.name for page in HOWTO.glob("*.md"))
PIP = ["python", "-m", "pip"]


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Follow a page in an empty folder: what it printed, and the names that its Python leaves.

    `shorter` replaces parts of its text, each of which must be there.
    """
    monkeypatch.chdir(tmp_path)

    def run(page, **shorter):
        told, names, text = [], {}, pages.page_text(f"docs/howto/{page}")
        for given, short in shorter.items():
            assert given in text
            text = text.replace(given, short)
        for step in pages.steps(text):
            if isinstance(step, str):
                pages.run_code(step, page, names)
            elif step[0] == "export":
                monkeypatch.setenv(*step[1].split("=", 1))
            elif step[:3] != PIP:
                told.append(pages.run_line(step, tmp_path))
        return "".join(told), names

    return run


def test_quickstart(follow, tmp_path):
    """In small; the notebook, of the same text, is run as it stands."""
    _, names = follow("quickstart.md", **{"epochs=3": "epochs=1, search=False", "range(24)": "range(14)"})
    assert names["features"].shape == (8, 512)
    rows = list(csv.DictReader((tmp_path / "predictions.clips.csv").open()))
    assert len(rows) == 8 and {row["prediction"] for row in rows} <= {"abdomen", "heart"}
    assert names["evaluated"].metrics


def test_few_labels(follow, tmp_path, capsys):
    labelled(tmp_path / "DATA", 14)
    (tmp_path / "POOL").mkdir()
    for patient in range(40, 48):
        Image.fromarray(still_of(patient)).save(tmp_path / "POOL" / f"p{patient}.png")
    told, names = follow("few-labels.md")
    assert "random:resnet18" in told
    assert names["probabilities"].shape == (8, 2)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_segmentation(follow, tmp_path):
    masked(tmp_path / "DATA")
    masked(tmp_path / "EXTERNAL", 4, start=40)
    clip_file(tmp_path / "CLIPS")
    _, names = follow("segmentation.md")
    assert [len(values) for values in names["areas"].values()] == [3]
    assert list((tmp_path / "masks" / "masks").rglob("*.png")) and list((tmp_path / "masks" / "overlays").iterdir())
    assert names["logits"].shape[:2] == (2, 1)


def test_export_and_serve(follow, tmp_path):
    """The service gives the probabilities of `predict`, in both forms."""
    labelled(tmp_path / "DATA", 14)
    tune = ["usbackbones", "finetune", "DATA", "--group-from", "^(p[0-9]+)_", "-o", "tuned"]
    pages.run_line(tune, tmp_path)
    (tmp_path / "STILLS").mkdir()
    Image.fromarray(still_of(90)).save(tmp_path / "STILLS" / "still.png")
    _, names = follow("export-and-serve.md")
    (row,) = csv.DictReader((tmp_path / "reference.csv").open())
    wanted = {name: float(row[f"prob_{name}"]) for name in names["classes"]}
    assert names["answer"] == pytest.approx(wanted, abs=0.02)
    ((first, second),) = names["logits"]
    assert 1 / (1 + np.exp(second - first)) == pytest.approx(wanted["abdomen"], abs=0.02)


def test_a_dicom_archive(follow, tmp_path):
    """No name and no number of a patient is printed or written."""
    dicom_archive(tmp_path / "ARCHIVE")
    labelled(tmp_path / "LABELLED", 12)
    told, names = follow("dicom-archive.md")
    assert len(names["clip"].patient) == 16
    assert (tmp_path / "sheet.png").is_file() and (tmp_path / "compared" / "report.html").is_file()
    assert patients_told(told.encode(), tmp_path) == []


def test_offline_in_a_hospital(follow, tmp_path, monkeypatch):
    """All but the installation, which the next test does, in a process that cannot open a connection."""
    labelled(tmp_path / "DATA", 14)
    clip_file(tmp_path / "CLIPS")
    (tmp_path / "model_cards").symlink_to(REPOSITORY / "model_cards")

    def refuse(self, address):
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    told, names = follow("offline-hospital.md")
    assert "resnet18.hico_open3" in told
    assert names["model"].pretrained_cfg["input_size"][0] == 1
    assert (tmp_path / "predictions.csv").is_file()


@pytest.mark.slow
def test_the_wheels_of_the_hospital(tmp_path):
    """Both lines, without what they would fetch beside this package; the default weight loads from the result."""
    lines = pages.commands(pages.page_text("docs/howto/offline-hospital.md"))
    build, install = (words for words in lines if words[:3] == PIP)
    clone = tmp_path / "clone"
    pages.copy_clone(clone)
    for words, short in ((build, ["--no-build-isolation"]), (install, ["--target", "site"])):
        line = [sys.executable, *words[1:], "--no-deps", *short]
        done = subprocess.run(line, cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    code = "import timm, usbackbones\ntimm.create_model('usbackbones/resnet18', pretrained=True)\n"
    used = python(f"{code}print(usbackbones.__file__)", clone / "site", HF_HUB_OFFLINE="1")
    assert used.startswith(str(clone / "site"))


def test_the_notebook_is_the_quickstart():
    told = "docs/howto/quickstart.ipynb differs from quickstart.md; write it again: python -m tests.notebook"
    assert pages.page_text(notebook.NOTEBOOK) == notebook.notebook_of(pages.page_text(notebook.PAGE)), told


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """From its first cell to its last, in a kernel of Jupyter."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient, of the extra test, is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient, of the extra test, is not installed")
    book = nbformat.read(REPOSITORY / notebook.NOTEBOOK, as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "(8, 512)" in str(book.cells)
    assert (tmp_path / "predictions.csv").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short(page):
    assert 30 <= len(pages.page_text(f"docs/howto/{page}").splitlines()) <= 80


@pytest.mark.parametrize("page", PAGES)
def test_nothing_that_looks_like_code_is_left_out(page):
    """Every fence is a block of Python and every indented line a step, so that what `follow` runs is all there is."""
    text = pages.page_text(f"docs/howto/{page}")
    fences = [line for line in text.splitlines() if line.lstrip().startswith(("```", "~~~"))]
    assert fences == ["```python", "```"] * (len(fences) // 2)
    outside = re.sub(r"^```python\n.+?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in outside.splitlines() if line.startswith(("    ", "\t"))]
    assert len(lines) + len(fences) // 2 == len(pages.steps(text)) > 0
