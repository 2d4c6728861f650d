"""The rooms of the house, the arrows between them, their sizes; and what importing the package costs."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, python

GUIDE = REPOSITORY / "CONTRIBUTING.md"


def read_arrows(text: str) -> dict[str, list[str]]:
    """{room: the rooms that it may import}, from the lines "room -> rooms" of the guide; "*" stands for all."""
    arrows: dict[str, list[str]] = {}
    for package, block in re.findall(r"<!-- arrows of (\w+) -->\n+```\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            rooms, arrow, targets = line.partition("->")
            assert arrow, f"{GUIDE.name}: no arrow in {line!r}"
            full = [target if target == "*" else f"{package}.{target}" for target in targets.split()]
            arrows |= {f"{package}.{room}" if room != package else room: full for room in rooms.split()}
    return arrows


# A room is a package or a single module; its subfolders belong to it unless they are rooms themselves. Modules whose
# name begins with "_" are below all others, and every room of training may import usbackbones.
ARROWS = read_arrows(GUIDE.read_text(encoding="utf-8"))
NOBODY_IMPORTS = {"usbackbones", "usbackbones.cli", "training.speed", "training.show_views"}  # but the room itself
MOST_FILES = {"usbackbones/cli": 20}
MOST_LINES = 260


def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name."""
    named = {}
    for package in ("usbackbones", "training"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return named


def imports_of(name: str, source: str, known: set[str]) -> set[str]:
    """The modules of ours that a module imports anywhere in its source, functions included.

    Raises:
        ValueError: for a relative import or `import_module`, which would hide an arrow.
    """
    targets = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"{name}: relative import, line {node.lineno}")
        elif isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            targets |= {target if target in known else str(node.module) for target in full}
        elif isinstance(node, ast.Name | ast.Attribute):
            called = node.id if isinstance(node, ast.Name) else node.attr
            if called in ("import_module", "__import__") and name != "usbackbones":
                raise ValueError(f"{name}: {called}, line {node.lineno}")
    return {target for target in targets if target in known} - {name}


def room_of(module: str) -> str | None:
    """The innermost room that a module stands in; None for one in no room."""
    if module == "usbackbones":
        return module
    inside = [room for room in ARROWS if room != "usbackbones" and (module == room or module.startswith(f"{room}."))]
    return max(inside, key=len, default=None)


def is_leaf(module: str) -> bool:
    """Whether a module is below all others: `usbackbones._files`, a package that only holds rooms."""
    last = module.rpartition(".")[2]
    private = last.startswith("_") and last != "__main__"
    return private or module == "training"


def faults(sources: dict[str, str]) -> list[str]:
    """All that is wrong with the arrows between these modules, given as {name: source}."""
    known, found = set(sources), []
    edges: dict[str, set[str]] = {}
    for name, source in sources.items():
        room = room_of(name)
        if room is None and not is_leaf(name):
            found.append(f"{name} stands in no room")
            continue
        for target in imports_of(name, source, known):
            if is_leaf(target) or room_of(target) == room:
                continue
            if is_leaf(name):
                found.append(f"{name} is below all others and imports {target}")
                continue
            if target.startswith("usbackbones") and str(room).startswith("training"):
                if target == "usbackbones" or target.startswith("usbackbones.cli."):
                    found.append(f"{name} -> {target}")
                continue
            allowed = ARROWS[str(room)]
            named = [target, room_of(target)]
            forbidden = room_of(target) in NOBODY_IMPORTS and name != "usbackbones.__main__"
            if forbidden or (allowed != ["*"] and not set(named) & set(allowed)):
                found.append(f"{name} -> {target}")
            edges.setdefault(str(room), set()).add(str(room_of(target)))
    circle = circle_in(edges)
    return sorted(found) + ([f"a circle of rooms: {' -> '.join(circle)}"] if circle else [])


def circle_in(edges: dict[str, set[str]]) -> list[str] | None:
    """A path that comes back to its beginning, or None."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        for target in sorted(edges.get(name, ())):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(edges) if (found := walk(name, []))), None)


def crowded(folders: dict[str, int], lines: dict[str, int]) -> list[str]:
    """Folders with too many files and modules with too many lines."""
    return [f"{name} has {n} files" for name, n in folders.items() if n > MOST_FILES.get(name, 15)] + [
        f"{name} has {n} lines" for name, n in lines.items() if n > MOST_LINES
    ]


def test_every_module_stands_in_a_room_and_every_arrow_is_listed():
    assert faults({name: file.read_text(encoding="utf-8") for name, file in modules().items()}) == []


def test_no_room_is_crowded():
    files = modules().values()
    folders = [file.parent.relative_to(REPOSITORY).as_posix() for file in files]
    lines = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert crowded({folder: folders.count(folder) for folder in folders}, lines) == []
    rooms = [path for path in (REPOSITORY / "usbackbones").iterdir() if (path / "__init__.py").is_file()]
    assert len(rooms) <= 14


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ({"usbackbones.attic": ""}, "usbackbones.attic stands in no room"),
        ({"training.attic.x": ""}, "training.attic.x stands in no room"),
        (
            {"usbackbones.hub.x": "from usbackbones.data import y", "usbackbones.data.y": ""},
            "hub.x -> usbackbones.data.y",
        ),
        ({"usbackbones.hub.x": "def f():\n    import training.errors", "training.errors": ""}, "-> training.errors"),
        ({"usbackbones.data.x": "import usbackbones", "usbackbones": ""}, "usbackbones.data.x -> usbackbones"),
        ({"training.nn.x": "import usbackbones", "usbackbones": ""}, "training.nn.x -> usbackbones"),
        ({"usbackbones._x": "import usbackbones.hub", "usbackbones.hub": ""}, "is below all others"),
        (
            {
                "usbackbones.metrics.a": "import usbackbones.report.b",
                "usbackbones.report.b": "import usbackbones.metrics.a",
            },
            "a circle of rooms: usbackbones.metrics -> usbackbones.report -> usbackbones.metrics",
        ),
    ],
)
def test_a_fault_is_seen(extra, fault):
    assert any(fault in told for told in faults(extra))


@pytest.mark.parametrize("hidden", ["from . import y", "from importlib import import_module\nimport_module('a')"])
def test_no_arrow_can_be_hidden(hidden):
    with pytest.raises(ValueError, match=r"usbackbones\.hub\.x: "):
        faults({"usbackbones.hub.x": hidden})


def test_crowds_are_seen():
    assert crowded({"training/nn": 15, "usbackbones/cli": 20}, {"a.py": 260}) == []
    assert len(crowded({"training/nn": 16, "usbackbones/cli": 21}, {"a.py": 261})) == 3


def test_importing_loads_nothing_that_only_some_need_and_parses_little():
    code = """
import builtins, json, sys
import timm
before, parsed, loads = set(sys.modules), [], json.loads
json.loads = lambda text, *args, **kwargs: (parsed.append(len(text)), loads(text, *args, **kwargs))[1]
import usbackbones
print(json.dumps({"parsed": sum(parsed), "new": sorted(set(sys.modules) - before)}))
"""
    cost = json.loads(python(code))
    heavy = {"pydicom", "nibabel", "av", "sklearn", "cv2", "scipy", "matplotlib", "pandas", "tqdm", "tyro", "training"}
    assert not heavy & {name.split(".")[0] for name in cost["new"]}
    assert "torchvision.transforms.v2" not in cost["new"]
    assert 0 < cost["parsed"] < 20_000
    assert len([name for name in cost["new"] if name.startswith("usbackbones")]) <= 13


def test_every_public_name_is_there():
    import usbackbones

    for name in usbackbones.__all__:
        assert getattr(usbackbones, name) is not None
        assert name in dir(usbackbones)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        usbackbones.nothing  # noqa: B018
