"""usbackbones audit: exit codes, ten lines, one-line refusals."""

import json

import pytest

from tests.hub.auditing.sets import write_set, write_table
from usbackbones.cli import main as cli


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A set whose second class is JPEG."""
    folder = tmp_path_factory.mktemp("set")
    halves = {"a": "png", "b": "jpg"}
    return write_table(folder / "data.csv", write_set(folder, lambda p: "ab"[p % 2], suffix=halves.__getitem__))


@pytest.fixture
def run(capsys):
    """Run a command in this process; returns (exit code, stdout, stderr)."""

    def run_command(*args):
        code = 0
        try:
            cli.main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run_command


def test_strict_fails_until_every_finding_has_a_reason(run, table, tmp_path):
    out = tmp_path / "audit"
    code, told, _ = run("audit", table, "-o", out, "--model", "none", "--strict")
    assert code == 1
    assert len(told.splitlines()) <= 10
    assert "SERIOUS: container tells the class" in told
    content = json.loads((out / "audit.json").read_text())
    for one in content["findings"]:
        one["accepted"] = "class b was saved as JPEG by the archive"
    (tmp_path / "baseline.json").write_text(json.dumps(content))
    again = ("-o", tmp_path / "again", "--model", "none", "--strict", "--json")
    code, told, _ = run("audit", table, *again, "--baseline", tmp_path / "baseline.json")
    assert code == 0
    assert json.loads(told)["findings"][0]["accepted"].startswith("class b")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--draws", "10"], "at least 999"),
        (["--columns", "nothing"], "nothing"),
        (["--expected", "nothing"], "no such row"),
        (["--source-from", "nothing"], "no column"),
        (["--target", "number"], "no finite number"),
    ],
)
def test_slips_are_one_line(run, table, tmp_path, words, fault):
    code, told, error = run("audit", table, "-o", tmp_path / "audit", "--model", "none", *words)
    assert (code, told) == (2, "")
    assert fault in error.splitlines()[-1]
    assert not (tmp_path / "audit").exists()
