"""The license that goes with weights: stated by their source, inherited by what is made of them, or asked for.

A network that began at non-commercial weights stays non-commercial, whatever it was trained on afterwards.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm

from usbackbones._errors import Refused
from usbackbones.hub import registry
from usbackbones.hub.backbone import HUB, LOCAL, RANDOM, RUN, full_name
from usbackbones.hub.errors import BackboneError
from usbackbones.hub.foreign_weights import folder_of, folder_of_hub
from usbackbones.hub.pretraining_run import read_json

NONE = "none (random initialization)"
"""The license of weights that nobody trained."""
PRIVATE = "private"
"""The license of weights of an archive of one's own, which are not for publication."""
# NC as a word of a license's name, research licenses, and the emergency license of early COVID-19 data.
_NONCOMMERCIAL = re.compile(r"(?i)\bnc\b|non[ -]?commercial|research|emergency")


class LicenseError(Refused):
    """A license that is not stated, or that the source of the weights does not allow; one line with the remedy."""


@dataclass(frozen=True)
class License:
    """Under what terms weights may be used.

    Attributes:
        weights: name of the license.
        source: full name of the weights that it comes from; of a folder its last part, since it goes into files.
        data: licenses of the data that they were trained on, as recorded; empty where that is not recorded.
        noncommercial: whether the weights, what they began at, or their data exclude commercial use.
    """

    weights: str
    source: str
    data: tuple[str, ...] = ()
    noncommercial: bool = False

    def block(self) -> dict[str, Any]:
        """For config.json, under "usbackbones", "license", where `license_of` finds it again."""
        return {
            "weights": self.weights,
            "inherited_from": self.source,
            "data": list(self.data),
            "noncommercial": self.noncommercial,
        }

    def __str__(self) -> str:
        """A line for cards and terminals."""
        use = "; non-commercial use only" if self.noncommercial else ""
        return f"{self.weights}, by {self.source}{use}"


def is_noncommercial(names: Iterable[str]) -> bool:
    """Whether one of these licenses excludes commercial use, by its name."""
    return any(_NONCOMMERCIAL.search(name.replace("_", " ")) for name in names)


def license_of(name: str | None) -> License | None:
    """The license of the weights that a name for `build_backbone` stands for, None where their source states none.

    Raises:
        As `usbackbones.hub.backbone.full_name`, and for a folder that is none.
    """
    full = full_name(name)
    if full.startswith(RANDOM):
        return License(NONE, full)
    if full.startswith(RUN):
        run = Path(full.removeprefix(RUN))
        return _of_run(run, f"{RUN}{run.resolve().name}")
    if full.startswith((LOCAL, HUB)):
        folder = folder_of(full) if full.startswith(LOCAL) else folder_of_hub(full)
        return _of_folder(folder, f"{LOCAL}{folder.resolve().name}" if full.startswith(LOCAL) else full)
    if full.startswith(registry.OWNER):
        weight = registry.get_weight(full)
        return _license(weight.licence, full, weight.entry["licences"].get("data") or ())
    cfg = timm.get_pretrained_cfg(full.removeprefix("timm/"))
    return _license(cfg.license, full) if cfg and cfg.license else None


def license_for(name: str | None, given: str = "") -> License:
    """The license of a network that is made of the weights of a name: inherited, or as given.

    Args:
        name: any that `usbackbones.build_backbone` takes.
        given: license that the user states, by `--license`; needed where the source states none.

    Raises:
        LicenseError: if neither says it, or a non-commercial source is to become commercial.
    """
    found, given = license_of(name), given.strip()
    if found is None and not given:
        raise LicenseError(
            f"{full_name(name)} states no license of its weights: give it with --license NAME; the page that the "
            "weights come from has it"
        )
    if found is None:
        full = full_name(name)
        return _license(given, f"{LOCAL}{Path(full).name}" if full.startswith(LOCAL) else full)
    if given and found.noncommercial and not is_noncommercial([given]):
        raise LicenseError(
            f"--license {given}: {found.source} is {found.weights}, and what is made of it stays non-commercial; "
            "leave --license out, or begin at other weights"
        )
    return License(given, found.source, found.data, found.noncommercial) if given else found


def _license(weights: str, source: str, data: Iterable[str] = ()) -> License:
    data = tuple(data)
    return License(weights, source, data, is_noncommercial([weights, *data]))


def _of_run(run: Path, full: str) -> License:
    """Private, with the licenses of the data and of the weight that the run began at."""
    recipe, data = read_json(run / "recipe.json"), read_json(run / "corpus.json")["licences"]
    began = license_of(recipe["init"]) if recipe.get("init") else None
    terms = [*data, *([f"{began.weights} ({began.source})"] if began else [])]
    nc = is_noncommercial(data) or bool(began and began.noncommercial)
    return License(PRIVATE, full, tuple(terms), nc)


def _of_folder(folder: Path, full: str) -> License | None:
    """As the folder's config.json states it: our block, or the field that timm has."""
    try:
        config = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BackboneError(f"{folder / 'config.json'} is no JSON object ({error}): write the folder again") from error
    block = config.get("usbackbones", {}).get("license")
    if block:
        nc = bool(block["noncommercial"])
        return License(str(block["weights"]), str(block["inherited_from"]), tuple(block.get("data", ())), nc)
    stated = str(config.get("pretrained_cfg", config).get("license") or "")
    return _license(stated, full) if stated not in ("", "unknown") else None
