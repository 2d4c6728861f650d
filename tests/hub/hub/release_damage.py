"""Load a release damaged in a thousand ways: `python -m tests.hub.hub.release_damage FOLDER`.

It prints a line of JSON: how often what happened. It is a program of its own because
it fills timm's registry with what no other test should see.
"""

import collections
import contextlib
import hashlib
import io
import json
import os
import random
import sys
import traceback
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import usbackbones
from tests.conftest import random_tensors, write_weight
from tests.phantoms import phantom_clip
from usbackbones.cli import main as cli
from usbackbones.hub import entrypoints, registry
from usbackbones.hub.zoo import FILE

ARCH = "test_resnet"
# The types that a header may name; the slow obvious reader of a safetensors file needs no more.
TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One of the things that happen to files, most often where it hurts: in the first 4 kB."""
    content = bytearray(content)
    size = len(content)
    at = rng.randrange(min(size, 4096) if rng.random() < 0.7 else size)
    end = min(size, at + rng.randrange(1, 64))
    kind = rng.choice(["bit", "byte", "digit", "zeros", "cut", "longer", "twice", "swap", "text", "empty"])
    if kind == "bit":
        content[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        content[at] = rng.randrange(256)
    elif kind == "digit":  # a JSON number changes and stays one
        digits = [place for place in range(min(size, 4096)) if chr(content[place]).isdigit()]
        content[rng.choice(digits or [at])] = ord(rng.choice("0123456789"))
    elif kind == "zeros":
        content[at:end] = bytes(end - at)
    elif kind == "cut":
        del content[rng.randrange(size) :]
    elif kind == "longer":
        content += rng.randbytes(rng.randrange(1, 100))
    elif kind == "twice":
        content[at:at] = content[at:end]
    elif kind == "swap":
        other = rng.randrange(size - (end - at))
        content[at:end], content[other : other + end - at] = content[other : other + end - at], content[at:end]
    elif kind == "text":
        content[at:end] = rng.choice([b"NaN", b"null", b"[]", b'"', b"{", b"1e999", b"../../etc", b"\xff\xfe", b"-1"])
    else:
        content.clear()
    return bytes(content)


def read_slowly(content: bytes) -> dict[str, torch.Tensor]:
    """A safetensors file as its definition says: eight bytes of length, a JSON header, the numbers."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        tensors[name] = torch.frombuffer(data[start:end] or bytearray(8), dtype=TYPES[about["dtype"]])
        tensors[name] = tensors[name][: int(np.prod(about["shape"]))].reshape(about["shape"])
    return tensors


def holds(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    """Whether a network has exactly these numbers; NaN is NaN."""
    own = model.state_dict()
    return own.keys() == tensors.keys() and all(
        torch.equal(own[key].nan_to_num(7.5), tensors[key].to(own[key].dtype).nan_to_num(7.5)) for key in own
    )


class Trial:
    """A release in a folder, and the outcomes of loading it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.tensors = random_tensors(ARCH, 0)
        self.entry = write_weight(folder, f"{ARCH}.good1", self.tensors)
        self.content = (folder / f"{ARCH}.good1" / FILE).read_bytes()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.count = 0
        self.card = b"---\nlicense: mit\nlibrary_name: timm\n---\n# A card\n" * 20
        self.config = json.dumps({"architecture": ARCH, "pretrained_cfg": {"input_size": [3, 64, 64]}}).encode()

    def release(self, weights: bytes, sum_of: bytes, zoo_damage: bool = False, **files: bytes) -> str:
        """Write a release into a folder of its own and load it; returns what happened."""
        self.count += 1
        name = f"{ARCH}.trial1"  # one name for all: each registration replaces the one before
        place = self.folder / str(self.count)
        (place / name).mkdir(parents=True)
        (place / name / FILE).write_bytes(weights)
        for file, content in files.items():
            (place / name / file).write_bytes(content)
        entry = self.entry | {"sha256": hashlib.sha256(sum_of).hexdigest(), "bytes": len(weights)}
        zoo = json.dumps({"default": None, "weights": {name: entry}}).encode()
        while zoo_damage and (damaged := mutate(zoo, self.rng)) is not None:
            if damaged != zoo:
                zoo = damaged
                break
        (place / "zoo.json").write_bytes(zoo)
        try:
            for registered in usbackbones.register(place / "zoo.json"):
                model = timm.create_model(f"usbackbones/{registered}", pretrained=True, num_classes=0)
                if not holds(model, read_slowly(weights)):
                    return "a wrong network"
            return "loaded"
        except (usbackbones.WeightsError, usbackbones.ZooError, registry.UnknownModel) as error:
            return type(error).__name__ if len(str(error)) > 30 else f"an unclear {error!r}"
        except Exception as error:  # noqa: BLE001 - what is not foreseen is the finding
            return f"not foreseen: {type(error).__name__} {error} {traceback.format_exc(limit=-2)}"

    def note(self, kind: str, outcome: str) -> None:
        self.outcomes[f"{kind}: {outcome}"] += 1

    def run(self, each: int) -> None:
        """`each` trials of every kind."""
        for _ in range(each):
            damaged = mutate(self.content, self.rng)
            same = damaged == self.content
            self.note("weights" + ", by chance the same" * same, self.release(damaged, self.content))
            self.note("released weights", self.release(damaged, damaged))
            files = {"config.json": self.config, "README.md": self.card}
            file = self.rng.choice(sorted(files))
            files[file] = mutate(files[file], self.rng)
            self.note(file, self.release(self.content, self.content, **files))
            self.note("zoo", self.release(self.content, self.content, zoo_damage=True))

    def command_line(self, times: int) -> None:
        """The same through `usbackbones embed`, whose user is to see a line and never a traceback."""
        clip = self.folder / "clip.gif"
        first, *rest = map(Image.fromarray, phantom_clip(0, frames=2, size=64))
        first.save(clip, save_all=True, append_images=rest)
        hub = self.folder / "hub"
        os.environ["USBACKBONES_HUB"] = str(hub)
        usbackbones.register({"default": None, "weights": {f"{ARCH}.cli1": self.entry}})
        (hub / f"{ARCH}.cli1").mkdir(parents=True)
        for _ in range(times):
            damaged = mutate(self.content, self.rng)
            (hub / f"{ARCH}.cli1" / FILE).write_bytes(damaged)
            code, errors = 0, io.StringIO()
            try:
                with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                    cli.main(["embed", str(clip), "-o", str(self.folder / "x.npz"), "--model", f"{ARCH}.cli1"])
            except SystemExit as stop:
                code = int(stop.code or 0)
            except Exception as error:  # noqa: BLE001
                errors.write(f"Traceback {error!r}")
            fine = code == (0 if damaged == self.content else 2) and "Traceback" not in errors.getvalue()
            self.note("command line", "as it should" if fine else f"{code} {errors.getvalue()}")


def main() -> None:
    torch.set_num_threads(1)
    registry.install({f"us{ARCH}": entrypoints.entrypoint(ARCH)})
    trial = Trial(Path(sys.argv[1]), seed=int(sys.argv[2]))
    trial.run(int(sys.argv[3]))
    trial.command_line(int(sys.argv[3]) // 6)
    print(json.dumps(trial.outcomes))


if __name__ == "__main__":
    main()
