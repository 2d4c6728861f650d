"""A thousand damaged files of every format: each is a sound clip or a `ClipError`, and the interpreter lives on."""

import json
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[3]
TURNS = 1040  # every format as often as the next


def write_sound_files(folder):
    """Small sound files of every format, one each; returns their number."""
    from tests.hub.clips.dicom.dicom_files import SYNTAXES, doppler, palette, region, speckle, to_ybr, write_dicom
    from tests.hub.clips.test_read import CONTAINERS, write_gif, write_kind
    from tests.hub.clips.test_volume import write_meta, write_nifti
    from tests.hub.clips.test_zip import png, write_zip

    frames, rgb = speckle(6, 48, 48), doppler(3, 48, 64)
    facts = {"SequenceOfUltrasoundRegions": [region((4, 4, 40, 40))], "FrameTimeVector": [0, 9, 9], "PatientID": "A17"}
    for syntax in SYNTAXES:
        write_dicom(folder / f"{syntax}.dcm", frames, syntax=syntax, **facts)
    write_dicom(folder / "palette.dcm", frames, "PALETTE COLOR", **palette(rgb[0, :4].reshape(-1, 3)))
    write_dicom(folder / "ybr.dcm", to_ybr(rgb), "YBR_FULL_422")
    write_dicom(folder / "rgb.dcm", rgb, "RGB", "jpeg2000")
    write_dicom(folder / "deep.dcm", frames.astype(np.uint16) * 16, BitsStored=12, WindowCenter=2000, WindowWidth=900)
    write_dicom(folder / "bare", frames, meta=False)
    for suffix in CONTAINERS:
        write_kind(folder, suffix, frames)
    for suffix in ("gif", "tif", "png", "webp"):
        write_gif(folder / f"a.{suffix}", frames)
    Image.fromarray(frames[0]).save(folder / "a.jpg")
    write_nifti(folder / "a.nii", frames)
    write_nifti(folder / "a.nii.gz", frames)
    write_meta(folder / "a.mha", frames.astype(np.int16))
    write_meta(folder / "z.mha", frames, compress=True)
    np.save(folder / "a.npy", frames.astype(np.float32))
    np.savez_compressed(folder / "a.npz", frames)
    write_zip(folder / "a.zip", {f"{index}.png": png(frame) for index, frame in enumerate(frames)})
    return len(list(folder.iterdir()))


def mutated(content, draw):
    """A copy that is cut short, or whose bytes are changed, mostly those near the beginning, where the headers are."""
    content = bytearray(content)
    if draw.random() < 0.15:
        del content[draw.randrange(len(content)) :]
    for _ in range(draw.choice((1, 4, 30))):
        if content:
            content[draw.randrange(min(len(content), draw.choice((600, 1600, len(content)))))] = draw.choice(
                (0, 255, 128, draw.randrange(256))
            )
    return bytes(content)


def read_mutated(folder, turns):
    """Read the mutated files and count what becomes of them; all that is not allowed ends in an exception."""
    import resource

    # What a damaged header promises must not be allocated.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    from usbackbones.clips.read import Clip, ClipError, read_clip

    draw, path = random.Random(0), folder / "mutated"
    sound = [(file.name, file.read_bytes()) for file in sorted(folder.iterdir())]
    outcomes = {name: [0, 0] for name, _ in sound}
    for turn in range(turns):
        name, content = sound[turn % len(sound)]
        path.write_bytes(mutated(content, draw))
        try:
            with warnings.catch_warnings(action="ignore"):
                clip = read_clip(path, max_frames=20)
        except ClipError as error:
            assert re.fullmatch(r"[^\n]+; [^\n]+", str(error)), str(error)
            outcomes[name][1] += 1
        else:
            assert isinstance(clip, Clip)
            assert clip.frames.ndim == 3
            assert min(clip.frames.shape) > 0
            assert clip.frames.dtype == np.uint8
            assert all("\n" not in warning for warning in clip.warnings)
            assert clip.seconds_per_frame is None or clip.seconds_per_frame > 0
            assert clip.spacing_mm is None or min(clip.spacing_mm) > 0
            outcomes[name][0] += 1
    return outcomes


@pytest.mark.parametrize("turns", [TURNS // 8, pytest.param(TURNS, marks=pytest.mark.slow)])
def test_no_mutation_gets_past_the_readers(tmp_path, monkeypatch, turns):
    count = write_sound_files(tmp_path)
    assert count == 32
    monkeypatch.setenv("USBACKBONES_SALT", "a salt for the tests")
    command = [sys.executable, __file__, str(tmp_path), str(turns)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-3000:]  # a crash of the interpreter has a negative code
    outcomes = json.loads(run.stdout)
    assert sum(map(sum, outcomes.values())) == turns
    read, refused = (sum(column) for column in zip(*outcomes.values(), strict=True))
    assert min(read, refused) > turns // 6  # the damage is neither too mild nor too wild to mean something


if __name__ == "__main__":
    import types

    # The readers without the package around them, which would load torch.
    sys.modules["usbackbones"] = types.ModuleType("usbackbones")
    sys.modules["usbackbones"].__path__ = [str(REPOSITORY / "usbackbones")]
    json.dump(read_mutated(Path(sys.argv[1]), int(sys.argv[2])), sys.stdout)
