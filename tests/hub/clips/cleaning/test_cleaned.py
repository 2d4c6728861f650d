"""--clean: the same frames for embed, probe, finetune and predict; without it nothing changes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hub.clips.cleaning.screens import decorate, screen
from usbackbones.cli import main as cli
from usbackbones.clips.cleaned import cleaned, cleaned_frames
from usbackbones.clips.cleaning.clean import Cleaning, clean
from usbackbones.exporting.subject import subject_of
from usbackbones.features.extract import embed
from usbackbones.finetuning.config import FineTune
from usbackbones.finetuning.run import finetune
from usbackbones.hub.backbone import build_backbone
from usbackbones.predicting.run import predict
from usbackbones.predicting.trained import PredictError, load_trained

MODEL = "random:test_resnet"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stills of twelve patients on a scanner's screen, a folder a class."""
    folder = tmp_path_factory.mktemp("screens")
    for patient in range(12):
        made = screen(patient, 1)
        decorate(made.frames)
        (folder / "ab"[patient % 2]).mkdir(exist_ok=True)
        Image.fromarray(made.frames[0]).save(folder / "ab"[patient % 2] / f"p{patient:02d}.png")
    return folder


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_what_networks_see_is_the_cleaning_of_prepare_with_overlays_black(data: Path) -> None:
    frame = pixels(data / "a" / "p00.png")
    wanted = clean(frame[None], Cleaning(overlays="black")).frames
    np.testing.assert_array_equal(cleaned(frame[None]), wanted)
    assert wanted.size < frame.size / 2
    black = np.zeros((2, 64, 64), np.uint8)  # nothing is dropped: whoever gave a clip wants it
    np.testing.assert_array_equal(cleaned(black), black)


def test_a_clip_is_cleaned_as_a_whole_and_stills_of_a_folder_each_for_itself(tmp_path: Path, data: Path) -> None:
    """The frames that remain with a stride are those of the whole clip, cleaned."""
    made = screen(3, 5)
    decorate(made.frames)
    np.save(tmp_path / "clip.npy", made.frames)
    found = [frame for frame, _ in cleaned_frames(tmp_path / "clip.npy", stride=2, warn=print)]
    np.testing.assert_array_equal(np.stack(found), cleaned(made.frames)[::2])
    names: list[str] = []
    each = [frame for frame, _ in cleaned_frames(data / "a", stride=2, warn=print, names=names)]
    assert names == ["p00.png", "p04.png", "p08.png"]
    for name, frame in zip(names, each, strict=True):
        np.testing.assert_array_equal(frame, cleaned(pixels(data / "a" / name)[None])[0])


def test_embed(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Features are those of the cleaned frames, and the cache keeps both apart."""
    still = data / "a" / "p00.png"
    model = build_backbone(MODEL, None)
    frames = {"raw": pixels(still)[None], "clean": cleaned(pixels(still)[None])}
    for name in ("raw", "clean", "raw", "clean"):
        words = [
            "embed",
            str(still),
            "-o",
            str(tmp_path / "f.npz"),
            "--model",
            MODEL,
            "--cache",
            str(tmp_path / "cache"),
        ]
        cli.main([*words, *(["--clean"] if name == "clean" else [])])
        wanted = embed(model, frames[name])
        np.testing.assert_allclose(np.load(tmp_path / "f.npz")["features"], wanted, rtol=1e-4, atol=1e-5)
    assert "1 hits, 0 misses" in capsys.readouterr().out
    assert np.abs(embed(model, frames["raw"]) - embed(model, frames["clean"])).max() > 1e-2


def test_a_model_tuned_on_clean_frames_predicts_on_clean_frames(tmp_path: Path, data: Path) -> None:
    """The table's probabilities are the network's own on cleaned frames; another cleaning is refused."""
    spec = FineTune(epochs=1, head_epochs=0, batch=4, start="random", search=False, clean=True)
    finetune(data, MODEL, tmp_path / "tuned", spec, group_from="(p[0-9]+)", progress=False)
    still = data / "b" / "p01.png"
    done = predict(tmp_path / "tuned", still, tmp_path / "p.csv", progress=False)
    assert json.loads(done.about.read_text())["clean"] is True
    trained = load_trained(tmp_path / "tuned")
    outputs = trained.model(trained.prepare(cleaned(pixels(still)[None])[0])[None].to(next(trained.model.parameters())))
    with done.frames.open() as stream:
        row = next(csv.DictReader(stream))
    assert float(row["prob_a"]) == pytest.approx(float(outputs.detach().softmax(1)[0, 0]), abs=5e-3)  # bf16
    assert "not done by the program" in subject_of(f"local-dir:{tmp_path / 'tuned'}").facts["clean"]
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    config["usbackbones"]["clean"]["version"] = 0
    (tmp_path / "tuned" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PredictError, match="cleaned otherwise"):
        load_trained(tmp_path / "tuned")


def test_probe_with_and_without_are_two_runs(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "probe",
        str(data),
        "--model",
        MODEL,
        "--group-from",
        "(p[0-9]+)",
        "-o",
        str(tmp_path / "out"),
        "--folds",
        "2",
    ]
    cli.main([*words, "--clean"])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["spec"]["clean"] is True
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == cli.REFUSED and "clean differ" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["embed", "probe", "finetune"])
def test_preview(command: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The image is written, and nothing else happens; a name that is none, or no clip, is a line."""
    cli.main([command, str(data), "--preview", str(tmp_path / "sheet.png")])
    assert "clips before and after" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]
    assert pixels(tmp_path / "sheet.png").std() > 10
    with pytest.raises(SystemExit) as stop:
        cli.main([command, str(data), "--preview", str(tmp_path / "sheet.txt")])
    assert stop.value.code == cli.REFUSED and len(capsys.readouterr().err.splitlines()) == 1
