"""usbackbones list and info: what is known of the weights."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tyro.conf import Positional

from usbackbones.cli.terminal import AsJson, say


def list_command(as_json: AsJson = False) -> None:
    """List the published weights: name, licence tier, licence and size.

    Args:
        as_json: print their whole entries as JSON instead.
    """
    from usbackbones.hub import registry

    weights = [registry.get_weight(name) for name in registry.list_weights()]
    if as_json:
        say(json.dumps({weight.name: weight.entry for weight in weights}, indent=2))
        return
    if not weights:
        say("No weights are published in this version of usbackbones.")
        return
    rows = [("NAME", "ARCH", "TAG", "TIER", "LICENCE", "MB", "")]
    for weight in weights:
        size = f"{weight.entry['bytes'] / 1e6:.1f}"
        mark = "(default)" if weight.name == registry.default_name() else ""
        rows.append((weight.name, weight.arch, weight.tag, weight.entry["tier"], weight.licence, size, mark))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def info_command(name: Positional[str], as_json: AsJson = False) -> None:
    """Tell what is known of one weight.

    Args:
        name: <arch>.<tag> as `usbackbones list` prints it, or <arch> for its default.
        as_json: print its entry as JSON instead.
    """
    from usbackbones.hub import locate, registry

    weight = registry.get_weight(name)
    if as_json:
        say(json.dumps(weight.entry, indent=2))
        return
    places = (place.file for place in locate.local_places(weight.name, weight.folder))
    file = next((str(file) for file in places if file.is_file()), "fetched from the Hub when first used")
    say(f"{registry.OWNER}{weight.name}")
    # The numbers of all tasks fill pages: the card has them as tables.
    measured = ", ".join(weight.entry.get("metrics") or ["nothing yet"])
    for line in _outline({**weight.entry, "metrics": f"{measured} (--json has the numbers)", "file": file}):
        say(f"  {line}")


def _outline(entry: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A nested mapping as lines `key: value`."""
    for key, value in entry.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _outline(value, f"{indent}  ")
        else:
            items = value if isinstance(value, list) else [value]
            shown = ["-" if item in (None, {}) else str(item) for item in items[:6]] or ["-"]
            more = f" and {len(items) - 6} more, see --json" if len(items) > 6 else ""
            yield f"{indent}{key}: {', '.join(shown)}{more}"
