"""usbackbones pack: a pretraining run of one's own, as a timm folder for private use."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from usbackbones._run_folder import refuse_taken
from usbackbones.cli.options import AsJson, Out
from usbackbones.cli.terminal import say, say_json


def pack_command(
    run: Positional[Path],
    out: Out,
    license_name: Annotated[str, arg(name="license")] = "",
    as_json: AsJson = False,
) -> None:
    """Write the backbone of a pretraining run as a timm folder for private use, with a card that says so.

    Args:
        run: folder of a finished `python -m training.pretrain`.
        out: the folder to write.
        license_name: license of the weights; "private" if none is given.
        as_json: print the outcome as JSON.
    """
    from usbackbones.exporting.pack import pack

    refuse_taken(out)
    done = pack(Path(str(run).removeprefix("run:")), out, license_name)
    if as_json:
        say_json(asdict(done))
        return
    use = "; non-commercial use only" if done.license.noncommercial else ""
    say(f"{out}: {done.arch}, license of the weights: {done.license.weights}{use}")
    say(f"largest difference to the run's features: {done.difference:.1e} of the largest one, on 4 simulated frames")
    say(f'load it: timm.create_model("local-dir:{out}", pretrained=True), or --model local-dir:{out} in any command')
