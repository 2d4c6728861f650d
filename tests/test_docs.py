"""The documents: code that they show runs, names that they use exist, and what is rendered is as rendered now."""

import configparser
import csv
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from packaging.version import Version
from PIL import Image

import usbackbones
from tests import pages
from tests.conftest import REPOSITORY
from tests.hub.predicting.conftest import timm_folder
from tests.overlay import OLDEST
from tests.phantoms import phantom_clip
from usbackbones.cli.main import COMMANDS

DOCS = REPOSITORY / "docs"
MIGRATION = (DOCS / "from-imagenet.md").read_text(encoding="utf-8")


def test_from_imagenet_runs_from_its_first_line_to_its_last():
    """The blocks are one program: each goes on with the names of those before it."""
    blocks = pages.steps(pages.marked("docs/from-imagenet.md", "program"))
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        pages.run_code(block, "docs/from-imagenet.md", names)
    assert names["a"].shape == (2, 512)
    frame = names["frames"][0]
    size = names["one"].pretrained_cfg["input_size"][-1]
    assert f"[2, 1, {size}, {size}]" in MIGRATION
    assert names["ours"](frame).shape == names["timms"](Image.fromarray(frame)).shape == (1, size, size)


def test_from_imagenet_names_models_that_exist():
    old, new = re.findall(r'create_model\("([^"]+)"', MIGRATION)[:2]
    assert old in timm.list_models(pretrained=True)
    assert new.removeprefix("usbackbones/") in usbackbones.list_weights()


def test_the_sum_over_channels_is_exact_for_one_mean_and_not_for_imagenets_three():
    """What the page says of ImageNet's normalisation, on random weights: timm's 3-channel and 1-channel networks."""
    torch.manual_seed(0)
    three = torch.nn.Conv2d(3, 8, 7, bias=False)
    one = torch.nn.Conv2d(1, 8, 7, bias=False)
    one.weight.data = three.weight.data.sum(1, keepdim=True)
    gray = torch.rand(1, 1, 32, 32)
    for mean, std, exact in (([0.5] * 3, [0.25] * 3, True), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False)):
        means, stds = (torch.tensor(values)[:, None, None] for values in (mean, std))
        a = three((gray.expand(-1, 3, -1, -1) - means) / stds)
        b = one((gray - means.mean()) / stds.mean())
        assert ((a - b).abs().max() < 1e-5) == exact


def test_the_oldest_versions_that_are_tested_are_the_floors():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    floors = dict(re.findall(r"^([\w]+)>=([\d.]+)", config["options"]["install_requires"], re.MULTILINE))
    tested = dict(pin.split("==") for pin in OLDEST if "==" in pin)
    for name, version in tested.items():
        assert Version(version).release[:2] == Version(floors[name]).release[:2], name
    page = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    assert all(f"{name} {version}" in page for name, version in tested.items())


def test_each_other_library_has_its_test():
    page = (DOCS / "compatibility.md").read_text(encoding="utf-8")
    folder = REPOSITORY / "tests" / "hub" / "ecosystem"
    assert set(re.findall(r"`(test_\w+\.py)` \|$", page, re.MULTILINE)) == {file.name for file in folder.glob("test_*")}


def test_the_index_leads_to_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#:]+)", index))
    there = {file.relative_to(DOCS).as_posix() for form in ("*.md", "*.ipynb") for file in DOCS.rglob(form)}
    assert there - {"index.md"} == linked


def test_extras_that_are_named_exist():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    for page in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for named in re.findall(r"(?:usbackbones|\.)\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= {*config["options.extras_require"]}, f"{page.name}: {named}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_links_of_the_documents_lead_somewhere(page):
    for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / path).exists(), path


# A command, a file, or a dotted name in backticks, in Markdown and in docstrings.
COMMAND = re.compile(
    r"(?:python3? |nproc-per-node \S+ |^ *)-m ((?:training|usbackbones|tests)\b[a-z_.]*)\b", re.MULTILINE
)
FILE = re.compile(r"\b(?:training|usbackbones|tests|docs)/[\w/]+\.(?:py|md)\b")
DOTTED = re.compile(r"`((?:training|usbackbones|tests)\.[a-z_.]*[a-z_])`")
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "training/*.md",
        "model_cards/*/README.md",
        "usbackbones/**/*.py",
        "training/**/*.py",
    )
    for path in REPOSITORY.glob(pattern)
)


def source(name: str) -> Path | None:
    """The file of a module or package."""
    path = REPOSITORY / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def lost(text: str) -> list[str]:
    """The commands, files and dotted names that a text names and that are not there."""

    def runs(name: str) -> bool:
        path = REPOSITORY / name.replace(".", "/")
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()

    def stands(name: str) -> bool:
        place, _, last = name.rpartition(".")
        file = source(place)
        return bool(source(name) or (file and re.search(rf"\b{last}\b", file.read_text(encoding="utf-8"))))

    return [
        *(name for name in COMMAND.findall(text) if not runs(name)),
        *(name for name in FILE.findall(text) if not (REPOSITORY / name).is_file()),
        *(name for name in DOTTED.findall(text) if not stands(name)),
    ]


def test_commands_files_and_modules_that_are_named_exist():
    found = {str(path.relative_to(REPOSITORY)): lost(path.read_text(encoding="utf-8")) for path in TEXTS}
    found["training/STUDY.md"].remove("training/study.py")  # of an earlier revision, as it says
    assert {path: names for path, names in found.items() if names} == {}


def test_a_lost_name_is_seen():
    text = (
        "python -m training.sheet, python -m training.study x, docs/api.md, `usbackbones.fewshot`, `usbackbones.embed`"
    )
    assert lost(text) == ["training.sheet", "docs/api.md", "usbackbones.fewshot"]


def test_the_page_of_the_command_line_has_every_command():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    lines = {name: " ".join((command.__doc__ or "").split("\n\n")[0].split()) for name, command in COMMANDS.items()}
    table = "".join(f"| `{name}` | {line.rstrip('.')} |\n" for name, line in lines.items())
    assert f"|---|---|\n{table}\n" in page, f"docs/cli.md is to show the first line of each help:\n{table}"
    source = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "usbackbones" / "cli").glob("*.py"))
    for flag in set(re.findall(r"`--([a-z][\w-]*)", page)) - {"tyro-write-completion"}:
        assert flag.replace("-", "_") in source, flag


@pytest.mark.parametrize(
    "page", ["README.md", *(str(file.relative_to(REPOSITORY)) for file in sorted(DOCS.rglob("*.md")))]
)
def test_what_a_document_imports_comes_from_the_face(page):
    """Each public name has one place; a page that named a room would tie its readers to the house's plan."""
    shown = re.findall(
        r"^\s*(?:from (usbackbones[\w.]*) import ([\w, ]+)|import (usbackbones\.[\w.]+))",
        (REPOSITORY / page).read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for module, names, plain in shown:
        assert module == "usbackbones" and not plain
        assert {name.strip() for name in names.split(",")} <= {*usbackbones.__all__}


def test_predict_and_evaluate_as_the_command_line_page_has_them(tmp_path):
    """Its lines on simulated clips, with the folder of a tiny classifier and an external table with scanners."""
    part = pages.marked("docs/cli.md", "predict")
    timm_folder(tmp_path / "tuned", ["abdomen", "heart"])
    pages.labelled(tmp_path / "named", 4, start=40)
    pages.clip_file(tmp_path / "CLIPS")
    rows = [f"{file},{file.parent.name},{'AB'[n % 2]}" for n, file in enumerate(sorted(tmp_path.glob("named/*/*.png")))]
    (tmp_path / "external.csv").write_text("\n".join(["path,label,scanner", *rows]))
    predicted, evaluated = (pages.run_line(words, tmp_path) for words in pages.commands(part))
    assert "1 clip predicted" in predicted or "1 clips predicted" in predicted
    assert "scanner A: balanced accuracy" in evaluated and "scanner B: balanced accuracy" in evaluated
    assert (tmp_path / "predictions.clips.csv").is_file() and (tmp_path / "evaluation" / "report.html").is_file()


def test_help_and_completion_as_the_command_line_page_has_them(tmp_path):
    """Of every command in the place of COMMAND; completion below a home that is empty."""
    for words in pages.commands(pages.marked("docs/cli.md", "help")):
        for name in COMMANDS if "COMMAND" in words else [""]:
            told = pages.run_line([name if word == "COMMAND" else word for word in words], tmp_path)
            assert told.startswith(f"usage: usbackbones {name}".rstrip())
    lines = pages.commands(pages.marked("docs/cli.md", "completion"))
    assert len(lines) == 3
    for words in lines:
        file = tmp_path / words[-1].removeprefix("~/")
        file.parent.mkdir(parents=True)
        pages.run_line([*words[:-1], str(file)], tmp_path)
        assert "usbackbones" in file.read_text(encoding="utf-8")


def test_convert_as_the_command_line_page_has_it(tmp_path):
    (words,) = pages.commands(pages.marked("docs/cli.md", "convert"))
    torch.save({"state_dict": timm.create_model("resnet18").state_dict()}, tmp_path / "checkpoint.pth.tar")
    pages.run_line(words, tmp_path)
    assert timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=0).num_features == 512


@pytest.mark.slow
def test_smaller_programs_as_their_page_has_them(tmp_path, monkeypatch):
    """Both precisions from Python, and int8 from the command line."""
    monkeypatch.chdir(tmp_path)
    frames = np.concatenate([phantom_clip(number, frames=2, size=160) for number in range(8)])
    (tmp_path / "CLIPS").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "CLIPS" / f"{number}.png")
    python, line = pages.steps(pages.marked("docs/export.md", "export"))
    pages.run_code(python, "docs/export.md", {"frames": frames})
    assert {file.name for file in tmp_path.glob("backbone.*")} == {"backbone.onnx", "backbone.pt2"}
    (tmp_path / "backbone.onnx").unlink()
    pages.run_line(line, tmp_path)
    assert (tmp_path / "backbone.onnx").is_file()


def test_texts_on_phantoms_as_the_audit_page_makes_them(tmp_path, monkeypatch):
    """Its script, of two phantoms."""
    monkeypatch.chdir(tmp_path)
    (script,) = pages.steps(pages.marked("docs/audit.md", "text"))
    assert "range(60)" in script
    pages.run_code(script.replace("range(60)", "range(2)"), "docs/audit.md", {})
    assert (tmp_path / "text.csv").read_text().split()[1:] == [f"phantoms/{n:03}.png,{n},{n % 2}" for n in range(2)]
    assert len(list((tmp_path / "phantoms").iterdir())) == 2


def test_tables_of_real_sets_as_the_audit_page_makes_them(tmp_path, monkeypatch, shared_data):
    """Each names files that are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["make_tables.py", str(shared_data.resolve())])
    (script,) = pages.steps(pages.marked("docs/audit.md", "tables"))
    pages.run_code(script, "docs/audit.md", {})
    tables = list(tmp_path.glob("*.csv"))
    assert len(tables) == script.count("write(") + 1  # one line writes three, one is the function
    for table in tables:
        row = next(csv.DictReader(table.open(encoding="utf-8")))
        assert Path(row.get("path") or row["image"]).is_file(), table.name
