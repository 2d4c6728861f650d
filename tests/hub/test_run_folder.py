"""Output folders: the same run goes on, anything else is refused and left as it was."""

import json

import pytest

from usbackbones._run_folder import RECORD, FolderTaken, claim, digest, finish


def test_the_same_run_goes_on_until_it_is_finished(tmp_path):
    out = tmp_path / "new" / "out"
    assert claim(out, "probe", {"seed": 0, "names": ("a", "b")}) is False
    (out / "metrics.json").write_text("{}")
    assert claim(out, "probe", {"seed": 0, "names": ["a", "b"]}) is False
    finish(out)
    assert claim(out, "probe", {"seed": 0, "names": ["a", "b"]}) is True


def test_another_run_is_refused_by_what_differs(tmp_path):
    claim(tmp_path, "probe", {"seed": 0, "items": digest([1])})
    before = (tmp_path / RECORD).read_text()
    for command, settings, told in (
        ("probe", {"seed": 1, "items": digest([1])}, r"\(seed differ\)"),
        ("probe", {"seed": 0, "items": digest([2])}, r"\(items differ\)"),
        ("segment", {"seed": 0, "items": digest([1])}, r"\(command differ\)"),
        ("probe", {"seed": 0}, r"\(items differ\)"),
    ):
        with pytest.raises(FolderTaken, match=told):
            claim(tmp_path, command, settings)
    assert (tmp_path / RECORD).read_text() == before


def test_a_folder_of_something_else_and_a_file_are_refused(tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(FolderTaken, match=r"something else, as thesis\.docx: give -o a new or empty folder"):
        claim(tmp_path, "probe", {})
    with pytest.raises(FolderTaken, match="is a file"):
        claim(tmp_path / "thesis.docx", "probe", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    (tmp_path / "empty").mkdir()
    assert not claim(tmp_path / "empty", "probe", {})
    assert json.loads((tmp_path / "empty" / RECORD).read_text()) == {"command": "probe"}
