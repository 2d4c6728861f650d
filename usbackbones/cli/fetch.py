"""usbackbones fetch: download weights and check them, before they are needed."""

from typing import Annotated, Any

from tyro.conf import Positional, arg

from usbackbones.cli.options import AsJson
from usbackbones.cli.terminal import CommandError, say, say_json, tell


def fetch_command(
    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[ARCH.TAG ...]")] = (),
    every: Annotated[bool, arg(name="all")] = False,
    as_json: AsJson = False,
) -> int:
    """Download weights to this machine, check their sha256, and print where their files are.

    A weight that is here already is checked again; one that is damaged in the cache is replaced. Exit code 1 if one of
    them could not be loaded.

    Args:
        names: as `usbackbones list` prints them.
        every: all published weights.
        as_json: print the files as JSON.
    """
    from usbackbones.hub import locate, registry
    from usbackbones.hub.errors import WeightsError

    if bool(names) == every:
        raise CommandError("name the weights to fetch, or give --all; `usbackbones list` prints their names")
    wanted = registry.list_weights() if every else [name.removeprefix(registry.OWNER) for name in names]
    weights = {weight.name: weight for weight in map(registry.get_weight, wanted)}  # an unknown name is refused first
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for name, weight in weights.items():
        try:
            file = locate.locate(weight)
        except WeightsError as error:
            failed[name] = str(error)
            tell(" ".join(str(error).split()))
        else:
            found[name] = {"file": str(file), "sha256": weight.sha256, "bytes": file.stat().st_size}
    if as_json:
        say_json({"weights": found, "failed": failed})
    else:
        for name, facts in found.items():
            say(f"{registry.OWNER}{name}  {facts['file']}  sha256 {facts['sha256']}")
    return 1 if failed else 0
