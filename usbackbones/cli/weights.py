"""usbackbones list and info: what is known of the weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from usbackbones._words import with_interval
from usbackbones.cli.options import AsJson
from usbackbones.cli.terminal import in_columns, say, say_json


def list_command(as_json: AsJson = False) -> None:
    """List the published weights: name, tier, license and size in MB.

    Args:
        as_json: print their whole entries as JSON instead.
    """
    from usbackbones.hub import registry

    weights = [registry.get_weight(name) for name in registry.list_weights()]
    if as_json:
        say_json({weight.name: weight.entry for weight in weights})
        return
    if not weights:
        say("No weights are published in this version of usbackbones.")
        return
    rows = [("NAME", "ARCH", "TAG", "TIER", "LICENSE", "MB", "")]
    for weight in weights:
        size = f"{weight.entry['bytes'] / 1e6:.1f}"
        mark = "(default)" if weight.name == registry.default_name() else ""
        rows.append((weight.name, weight.arch, weight.tag, weight.entry["tier"], weight.licence, size, mark))
    for line in in_columns(rows):
        say(line)


def info_command(name: Positional[str], as_json: AsJson = False) -> None:
    """Show a model: network, input, licenses and file; of our weights their numbers beside those of the controls.

    Args:
        name: <arch>.<tag> as `usbackbones list` prints it, or <arch> for its default; or, as every command takes it, a
            folder of finetune, segment or pack, local-dir:FOLDER, run:FOLDER, hf-hub:OWNER/NAME, or a timm name.
        as_json: print all that is known as JSON instead.
    """
    from usbackbones.hub import locate, registry
    from usbackbones.hub.backbone import full_name

    full = full_name(name)
    if not full.startswith(registry.OWNER):
        _info_of_another(full, as_json)
        return
    weight = registry.get_weight(full)
    if as_json:
        say_json(weight.entry)
        return
    entry, places = weight.entry, (place.file for place in locate.local_places(weight.name, weight.folder))
    file = next((str(file) for file in places if file.is_file()), "fetched from the Hub when first used")
    licences, seen = entry["licences"], weight.input
    channels = f"{seen.size} x {seen.size} px, one gray channel or three; mean {seen.mean}, std {seen.std}"
    facts = {
        "architecture": f"{weight.arch}, {entry['num_features']} features, {entry['bytes'] / 1e6:.1f} MB",
        "method": entry["method"],
        "input": channels,
        "license of the code": licences.get("code", "-"),
        "license of the weights": licences["weights"],
        "licenses of the data": "; ".join(licences.get("data", ())) or "-",
        "Hub": weight.pinned_hub_id if weight.revision else f"{weight.hub_id}, not published yet",
        "sha256": weight.sha256,
        "file": file,
    }
    _say_facts(f"{registry.OWNER}{weight.name}", facts)
    for line in _numbers(entry.get("headline") or {}):
        say(f"  {line}")


def _info_of_another(full: str, as_json: bool) -> None:
    """Facts of a model that is not one of our weights, and the metrics of its test part where its folder has them."""
    from usbackbones.cli.facts import facts_of
    from usbackbones.hub.backbone import LOCAL
    from usbackbones.hub.pretraining_run import read_json

    facts = facts_of(full)
    file = Path(full.removeprefix(LOCAL)).expanduser() / "metrics.json"
    metrics = read_json(file) if full.startswith(LOCAL) and file.is_file() else {}
    if as_json:
        say_json({"name": full, **facts, "metrics": metrics.get("metrics"), "frozen": metrics.get("frozen")})
        return
    _say_facts(full, facts)
    tested = metrics.get("metrics") or {}
    if not tested:
        say(f"  no numbers are recorded with it: usbackbones probe DATA --model {full}")
        return
    say("  on the test part of its training (95 % interval):")
    of = {"fine-tuned": tested, "frozen probe": metrics.get("frozen") or {}} if "clip" in tested else {"": tested}
    level = "patient" if metrics.get("unit") else "clip"
    for title, numbers in of.items():
        own = numbers.get(level, {}) if title else numbers
        for key, value in own.items():
            told = f"{title} {key}".strip().replace("_", " ")
            say(f"  {told + ':':<34}{with_interval(value)}")


def _say_facts(name: str, facts: Mapping[str, str]) -> None:
    say(name)
    for key, value in facts.items():
        say(f"  {key + ':':<24}{value}")


def _numbers(headline: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One number a task beside its controls; the card and docs/results.md have all of them."""
    if not headline:
        yield "not evaluated yet"
        return
    yield "on locked test groups (95 % interval), frozen: balanced accuracy of clips, or error in mm; U-Net: Dice"
    rows: list[tuple[str, ...]] = [("", "this weight", "ImageNet", "SimCLR", "random weights")]
    for task, told in headline.items():
        digits, unit = {"mae": (1, ", mm"), "dice": (3, ", Dice")}.get(told["metric"], (3, ""))
        value, low, high = (f"{told[key]:.{digits}f}" for key in ("value", "low", "high"))
        controls = (told.get(kind) for kind in ("imagenet", "simclr", "random"))
        shown = ("not run" if one is None else f"{one:.{digits}f}" for one in controls)
        rows.append((task + unit, f"{value} [{low}, {high}]", *shown))
    yield from in_columns(rows)
