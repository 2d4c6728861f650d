"""Mistakes on the command line of prepare: options that contradict one another, and places that cannot be written."""

import pytest
import tyro

from tests.conftest import run_module
from tests.training.data.prepare.test_prepare import write_video
from training.data.errors import CorpusError, short_errors
from training.data.manifest import Row, write_manifest
from training.data.prepare.run import main


@pytest.fixture
def manifest(tmp_path):
    """A manifest of two videos, beside a file that is no folder."""
    videos = [write_video(tmp_path / f"{number}.avi", 5, seed=number) for number in range(2)]
    write_manifest([Row(str(file), file.stem, file.stem) for file in videos], tmp_path / "manifest.csv")
    (tmp_path / "file").touch()
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("-o file", "file is a file: a cache is a folder"),
        ("-o file/cache", "file/cache"),
        ("--preview file/sheet.png --preview-clips 1", "file cannot be read or written"),
        ("--preview sheet.png --preview-clips 0", "--preview-clips 0"),
        ("--preview sheet.png --max-frames 0", "max_frames is 0"),
        ("--dry-run --size 0", "size is 0"),
        ("-o c --clean.overlays black", "--clean.overlays would clean nothing: give --clean.enabled too"),
        ("-o c --clean.no-crop --clean.no-drop-black", "--clean.no-drop-black, --clean.no-crop would clean nothing"),
        ("--dry-run --clean.no-mask", "--clean.no-mask would clean nothing"),
        ("-o c --clean.enabled --clean.overlays black --clean.no-report", "--clean.overlays black with"),
        ("--preview s.png --clean.overlays inpaint --clean.no-report", "--clean.overlays inpaint with"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_code_2(manifest, capsys, monkeypatch, arguments, complaint):
    monkeypatch.chdir(manifest.parent)
    before = sorted(manifest.parent.iterdir())
    with pytest.raises(SystemExit) as stop, short_errors(CorpusError):
        tyro.cli(main, args=[str(manifest), "--jobs", "1", *arguments.split()])
    last = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2 and last.startswith("error: ") and complaint in last
    assert sorted(manifest.parent.iterdir()) == before


def test_the_module_itself_ends_so(manifest):
    done = run_module("training.data.prepare", manifest, "-o", manifest)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_preview_takes_cleaning_options_without_enabling_it(manifest):
    tyro.cli(main, args=[str(manifest), "--preview", str(manifest.parent / "sheet.png"), "--clean.no-crop"])
    assert (manifest.parent / "sheet.png").is_file()
