"""The hub's tests under other versions of what it stands on, each in a fresh virtual environment.

    python -m tests.matrix                     # lists the rows
    python -m tests.matrix oldest newest-3.13  # runs two of them and writes their lines into docs/compatibility.md

A row is an interpreter and some pins. Its environment, some 6 GB where pip takes the CUDA build of torch, is removed
when its tests are done, before the next one is made.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import tyro

from usbackbones._files import atomic_write

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "compatibility.md"
BEGIN, END = "<!-- matrix: written by python -m tests.matrix -->", "<!-- end -->"
TESTED = ("timm", "huggingface_hub", "torch", "torchvision")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "scikit-learn", "pydicom", "setuptools")
SUBSET = (
    "tests/hub/hub/test_registry.py",
    "tests/hub/hub/test_entrypoints.py",
    "tests/hub/hub/test_locate.py",
    "tests/hub/hub/test_damage.py",
    "tests/hub/features/test_transforms.py",
    "tests/hub/hub/test_zoo.py",
    "tests/hub/clips/test_read.py",
    "tests/hub/probing/test_probes.py",
    "tests/hub/loopback/test_download.py",
    "tests/hub/loopback/test_download_failures.py",
)
"""What loads weights, reads clips and embeds them: what another version of a dependency could break."""


def requirements() -> list[str]:
    """What `pip install usbackbones` asks for, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    return config["options"]["install_requires"].split()


def floors() -> tuple[str, ...]:
    """Every requirement that has a lowest version, at exactly that version."""
    return tuple(re.sub(r">=([\d.]+).*", r"==\1", one) for one in requirements() if ">=" in one)


@dataclass(frozen=True)
class Row:
    """An interpreter and the pins that its environment is made with; what is not pinned is the newest."""

    python: str
    pins: tuple[str, ...] = ()


ROWS = {
    "oldest": Row("3.11", floors()),
    "hub-1": Row("3.12", ("huggingface_hub==1.33.0",)),
    "newest-3.11": Row("3.11"),
    "newest-3.12": Row("3.12"),
    "newest-3.13": Row("3.13"),
}


def interpreter(version: str) -> str | None:
    """The path of a Python of this version on this machine, of pyenv's too."""
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for candidate in filter(None, [shutil.which(f"python{version}"), *map(str, pyenv)]):
        told = subprocess.run([candidate, "--version"], capture_output=True, text=True)
        if told.returncode == 0 and told.stdout.startswith(f"Python {version}."):
            return candidate
    return None


def run(name: str, folder: Path) -> str:
    """Make the environment of a row in the folder, run the subset in it, and return the line of the table."""
    row = ROWS[name]
    found = interpreter(row.python)
    if found is None:
        raise SystemExit(f"{name}: there is no Python {row.python} on this machine; install it or leave the row out")
    python = folder / "bin" / "python"
    subprocess.run([found, "-m", "venv", str(folder)], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements(), *row.pins, *TOOLS], check=True)
    told = subprocess.run(
        [python, "-c", f"import importlib.metadata as m, json; print(json.dumps([m.version(x) for x in {TESTED}]))"],
        check=True,
        capture_output=True,
        text=True,
    )
    start = time.perf_counter()
    tests = subprocess.run(
        [python, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *SUBSET],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "", "USBACKBONES_TEST_CLIENTS": "installed"},
        capture_output=True,
        text=True,
    )
    if tests.returncode:
        log = Path(tempfile.gettempdir()) / f"usbackbones-matrix-{name}.log"
        with atomic_write(log, "w", encoding="utf-8") as stream:
            stream.write(tests.stdout + tests.stderr)
        print(f"{name}: pytest ended with {tests.returncode}; all that it said is in {log}", file=sys.stderr)
    last = (tests.stdout.strip() or f"error: pytest ended with {tests.returncode}").splitlines()[-1]
    summary = re.sub(r" in [\d.:() ]+s.*", "", last.strip("= "))
    versions = [sys_version(python), *json.loads(told.stdout)]
    return line(name, [*versions, summary, f"{time.perf_counter() - start:.0f} s", date.today().isoformat()])


def sys_version(python: Path) -> str:
    """For example 3.13.0."""
    return subprocess.run([python, "--version"], capture_output=True, text=True).stdout.split()[1]


def line(name: str, cells: list[str]) -> str:
    """A line of the table."""
    return f"| {name} | {' | '.join(cells)} |"


def table(lines: dict[str, str]) -> str:
    """The table as Markdown; a row without a line was not run, and says so."""
    columns = ["Python", *TESTED, "outcome", "took", "on"]
    rows = [lines.get(name) or line(name, [row.python, *[""] * 4, "not run", "", ""]) for name, row in ROWS.items()]
    return "\n".join([line("row", columns), line("---", ["---"] * len(columns)), *rows])


def written(page: str) -> dict[str, str]:
    """The lines of the table in the page, by row."""
    inside = page.partition(BEGIN)[2].partition(END)[0]
    return {one.split(" | ")[0].strip("| "): one for one in inside.splitlines() if one.startswith("| ")}


def main(rows: Annotated[tuple[str, ...], tyro.conf.Positional] = (), folder: Path | None = None) -> int:
    """Run rows of the matrix and write their lines.

    Args:
        rows: their names; without any, all are listed.
        folder: where environments are made; a temporary folder if not given.
    """
    unknown = set(rows) - ROWS.keys()
    if unknown or not rows:
        for name, row in ROWS.items():
            print(f"{name}: Python {row.python}, {' '.join(row.pins) or 'the newest of everything'}")
        return 2 if unknown else 0
    failed = 0
    for name in rows:
        with tempfile.TemporaryDirectory(dir=folder, prefix="matrix-") as place:
            found = run(name, Path(place))
        print(found)
        failed += "passed" not in found or "failed" in found or "error" in found
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        lines = written(page) | {name: found}
        with atomic_write(PAGE, "w", encoding="utf-8") as stream:
            stream.write(f"{before}{BEGIN}\n\n{table(lines)}\n\n{END}{rest.partition(END)[2]}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
