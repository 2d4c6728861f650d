"""Every fenced or indented block of README.md and docs/*.md is run by a test, or stands here with its reason."""

import re
import shlex
from collections.abc import Mapping

import pytest

from tests import pages
from tests.conftest import REPOSITORY, run_module
from usbackbones.cli.main import COMMANDS, _understood

DATA = "hours or minutes on data sets that are not in the repository"
NETWORK = "installs from the network, which .ci/run does"
NOT_RUN: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "python3 -m venv .venv && .venv/bin/pip install -q . &&": f"{NETWORK}; the demo has tests/hub/cli/test_demo.py",
        "python3 -m venv .venv && .venv/bin/pip install -q -e": ".ci/run reads this line from here and runs it",
        "python -m training.data.corpus pocus_lung": DATA,
    },
    "docs/audit.md": {"pip install 'usbackbones[train,dicom]'": f"{NETWORK}; the line below it is one of the README"},
    "docs/busi-duplicates.md": {
        "python -m training.data.overlap duplicates busi": DATA,
        "busi: 212 pairs": "printed by the command above it",
    },
    "docs/compatibility.md": {"python -m pytest -n 0 tests/hub/ecosystem": "tests, which the line of tests runs"},
    "docs/from-imagenet.md": {
        "+import usbackbones": "a change of two lines; test_docs.py asks for its names, and runs the new one",
        'pip install "usbackbones[imagenet]"': NETWORK,
        "python -m training.study.finetuning": DATA,
    },
    "docs/index.md": {"python -m pdoc usbackbones ": "opens a browser; .ci/run writes the files, warnings as errors"},
    "docs/learned.md": {"python -m training.pretrain uscl": DATA},
    "docs/scale.md": {
        "python -m training.data.prepare manifest.csv": "eight GPUs",
        "torchrun --nnodes 4": "four machines",
        "#!/bin/bash": "Slurm",
    },
    "docs/segment.md": {
        "python -m training.benchmark.dense MODEL": DATA,
        "python -m training.study.dense": DATA,
    },
    "docs/speed.md": {
        "pip install -e '.[train,speed]'": f"{NETWORK}; the second line takes minutes of two idle cores",
        "python -m training.speed\n": "minutes of an idle GPU",
        "MALLOC_MMAP_MAX_=0": "two variables before a command",
    },
}
"""{page: {beginning of the block: why no test runs it}}, in the order of the page."""
PAGES = ("README.md", *(str(file.relative_to(REPOSITORY)) for file in sorted((REPOSITORY / "docs").glob("*.md"))))


def run_elsewhere() -> list[list[str] | str]:
    """The steps under all marks, and those of the how-to pages, which tests/test_howto.py runs from top to bottom."""
    texts = [found["body"] for page in PAGES for found in pages.MARKED.finditer(pages.page_text(page))]
    texts += [file.read_text(encoding="utf-8") for file in (REPOSITORY / "docs" / "howto").glob("*.md")]
    return [step for text in texts for step in pages.steps(text)]


def left(page: str) -> list[str]:
    """The blocks of a page that no test runs."""
    known = run_elsewhere()
    blocks = pages.unmarked(pages.page_text(page))
    return [block for block in blocks if not (pages.steps(block) and all(step in known for step in pages.steps(block)))]


@pytest.mark.parametrize("page", PAGES)
def test_what_no_test_runs_stands_above_with_its_reason(page):
    blocks, reasons = left(page), NOT_RUN.get(page, {})
    starts = [next((start for start in reasons if _text(block).startswith(start)), block) for block in blocks]
    assert starts == [*reasons]


def test_a_new_block_is_seen():
    run = "<!-- a, run by tests/x.py -->\n\n    y\n\n<!-- end -->\n"
    text = f"A\n\n    usbackbones new\n\n```python\nx = 1\n```\n\n{run}"
    assert pages.unmarked(text) == ["    usbackbones new\n", "```python\nx = 1\n```"]


def test_the_test_of_a_mark_is_there():
    """The file that it names asks for it by its name."""
    for page in PAGES:
        for found in pages.MARKED.finditer(pages.page_text(page)):
            source = (REPOSITORY / found["file"]).read_text(encoding="utf-8")
            assert re.search(rf"[\"( -]{found['name']}[\", ]", source), f"{page}: {found['name']}"


def _text(block: str) -> str:
    """A block without its indent or fence, its lines joined where a backslash says so."""
    return re.sub(r"\A(?: {4}|```\w*\n)", "", re.sub(r" \\\n +", " ", block))


def lines_not_run(first: str) -> list[list[str]]:
    """The command lines of `NOT_RUN` that begin with a word, each as words."""
    whole = "".join(_text(block) + "\n" for page in NOT_RUN for block in left(page))
    lines = [line.strip() for line in whole.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(first)]


def test_commands_that_are_not_run_are_understood():
    lines = lines_not_run("usbackbones ")
    assert len(lines) == 1 and all(words[1] in COMMANDS for words in lines)
    for words in lines:
        assert callable(_understood(words[1:], as_json=False))


@pytest.mark.slow
def test_flags_of_modules_that_are_not_run_exist():
    """Those of `python -m training...` stand in its help, where it has several commands in that of the command."""
    for words in lines_not_run("python -m training."):
        module, rest = words[2], words[3:]
        sub = rest[:1] if module in ("training.pretrain", "training.data.overlap") else []
        shown = run_module(module, *sub, "--help").stdout
        assert [word for word in rest if word.startswith("--") and word not in shown] == [], shown
