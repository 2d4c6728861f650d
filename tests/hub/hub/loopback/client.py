"""A program that loads weights when told to, for the tests of downloads: huggingface_hub reads its settings at import.

It reads a line of JSON, does what it says and answers with a line of JSON, until its input ends.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import huggingface_hub
import timm
import torch

import usbackbones
from usbackbones.cli import main as cli
from usbackbones.hub import entrypoints, registry


def digest(model):
    """A sum over everything that a network holds, in float32, and over what it gives for a fixed input."""
    config = model.pretrained_cfg
    frames = torch.linspace(-2, 2, 2 * config["input_size"][1] ** 2).reshape(2, 1, *config["input_size"][1:])
    with torch.inference_mode():
        output = model.eval()(frames.expand(-1, config["input_size"][0], -1, -1))
    held = [*model.state_dict().values(), output]
    return hashlib.sha256(b"".join(tensor.float().contiguous().numpy().tobytes() for tensor in held)).hexdigest()


def load(name, cache_dir=None, **kwargs):
    model = timm.create_model(name, pretrained=True, cache_dir=cache_dir, **kwargs)
    return {"digest": digest(model), "file": model.pretrained_cfg.get("file")}


def run(args):
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(args)
        except SystemExit as stop:
            code = stop.code or 0
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def register(zoo):
    usbackbones.register(zoo)
    return {"huggingface_hub": huggingface_hub.__version__, "timm": timm.__version__}


def push(name, org, zoo, cards, private=False, dry_run=False):
    from training.release.push import push_lines

    return {"told": list(push_lines(name, org, private, dry_run, Path(zoo), Path(cards)))}


def obey(order):
    order = dict(order)
    os.environ.pop("HF_TOKEN", None)
    if token := order.pop("token", None):
        os.environ["HF_TOKEN"] = token
    function = {"load": load, "run": run, "register": register, "push": push}[order.pop("do")]
    try:
        return function(**order)
    except (OSError, ValueError, RuntimeError) as error:
        told = {key: getattr(error, key, None) for key in ("name", "repository", "revision", "file", "remedy")}
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds[0], "kinds": kinds, "message": str(error), **told}


def main():
    torch.set_num_threads(1)
    # A real network of 0.4 million numbers instead of 11, so that a hundred downloads are quick.
    registry.install({"ustest_resnet": entrypoints.entrypoint("test_resnet")})
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps(obey(json.loads(line)), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
