"""Who imports whom, drawn from the source; and what importing the package costs."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# The arrows of CONTRIBUTING.md: a module that is named here imports none of ours but these.
# `files` and `_version` stand below all others.
ARROWS = {
    "usbackbones._version": set(),
    "usbackbones.files": set(),
    # weights: where bytes come from, and what becomes of them
    "usbackbones.zoo": set(),
    "usbackbones.errors": {"usbackbones.zoo"},
    "usbackbones.proof": set(),
    "usbackbones.network": set(),
    "usbackbones.download": {"usbackbones.errors", "usbackbones.network", "usbackbones.proof", "usbackbones.zoo"},
    "usbackbones.hub": {"usbackbones.download", "usbackbones.errors", "usbackbones.proof", "usbackbones.zoo"},
    "usbackbones.registry": {"usbackbones.zoo"},
    "usbackbones.models": {"usbackbones.errors", "usbackbones.hub", "usbackbones.registry", "usbackbones.zoo"},
    "usbackbones.timm_folder": set(),
    "usbackbones.checkpoint": set(),
    "usbackbones.layouts": set(),
    "usbackbones.convert": {"usbackbones.checkpoint", "usbackbones.layouts", "usbackbones.timm_folder"},
    "usbackbones.quantise": set(),
    "usbackbones.export": {"usbackbones.phantom", "usbackbones.quantise", "usbackbones.transforms"},
    "usbackbones.precision": set(),
    "usbackbones.transforms": set(),
    # clips and who they are of
    "usbackbones.duplicates": set(),
    "usbackbones.splits": {"usbackbones.duplicates"},
    "usbackbones.dataset": {"usbackbones.clips", "usbackbones.splits"},
    "usbackbones.phantom": {"usbackbones.phantom_tissue"},
    "usbackbones.phantom_tissue": set(),
    # judging
    "usbackbones.scores": set(),
    "usbackbones.metalr": set(),
    "usbackbones.probe": {"usbackbones.splits", "usbackbones.scores", "usbackbones.transforms"},
    "usbackbones.untrained": set(),
    "usbackbones.pyramid": {"usbackbones.untrained"},
    "usbackbones.dense": {"usbackbones.pyramid"},
    "usbackbones.dense_heads": set(),
    "usbackbones.dense_scores": {"usbackbones.scores"},
    "usbackbones.masks": {
        *(f"usbackbones.{name}" for name in ("clips", "dataset", "dense_scores", "duplicates")),
    },
    "usbackbones.saliency": set(),
    "usbackbones.folding": set(),
    "usbackbones.features": {"usbackbones.folding", "usbackbones.precision", "usbackbones.transforms"},
    "usbackbones.feature_table": set(),
    "usbackbones.feature_cache": {"usbackbones.clips", "usbackbones.proof", "usbackbones.readers.kinds"},
    "usbackbones.probed": {
        *(f"usbackbones.{name}" for name in ("dataset", "fewshot", "probe", "scores", "splits", "report")),
    },
    "usbackbones.report.markup": set(),
    "usbackbones.report.style": set(),
    "usbackbones.fewshot": {"usbackbones.probe", "usbackbones.scores", "usbackbones.splits"},
}
LEAVES = {"usbackbones.files", "usbackbones._version"}


def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name."""
    found = {}
    for package in ("usbackbones", "training"):
        for file in sorted((REPOSITORY / package).rglob("*.py")):
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(name: str, source: str, known: set[str], is_package: bool) -> set[str]:
    """The modules of ours that a module imports anywhere in its source, functions included."""
    targets = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")
                kept = len(parents) - node.level + is_package
                base = ".".join([*parents[:kept], *([base] if base else [])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                targets.add(submodule if submodule in known else base)
    return {target for target in targets if target in known} - {name}


def graph() -> dict[str, set[str]]:
    files = modules()
    return {
        name: imports_of(name, file.read_text(encoding="utf-8"), set(files), file.name == "__init__.py")
        for name, file in files.items()
    }


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


def test_the_drawing_sees_every_kind_of_import():
    known = {"a", "a.b", "a.c", "a.d", "a.d.e", "a.f"}
    source = """
import a.b
from a import c, something
def later():
    from a.d.e import name
    from . import f
    from .d import other
"""
    assert imports_of("a.g", source, known, False) == {"a.b", "a.c", "a", "a.d.e", "a.f", "a.d"}
    assert imports_of("a.d", "from . import e\nfrom .. import f", known, True) == {"a.d.e", "a.f"}
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_there_is_no_circle():
    edges = graph()
    assert {"usbackbones", "usbackbones.models", "training.pretrain"} <= edges.keys()
    assert circle_in(edges) is None


def test_usbackbones_never_imports_training():
    backwards = {
        name: {target for target in targets if target.split(".")[0] == "training"}
        for name, targets in graph().items()
        if name.split(".")[0] == "usbackbones"
    }
    assert not {name: targets for name, targets in backwards.items() if targets}


def test_the_arrows_of_the_hub_hold():
    edges = graph()
    for name, allowed in ARROWS.items():
        if name in edges:
            assert edges[name] - LEAVES <= allowed, f"{name} must not import {edges[name] - LEAVES - allowed}"
    for name, targets in edges.items():
        if name == "usbackbones.clips" or name.startswith("usbackbones.readers"):
            assert all(target.startswith("usbackbones.readers") for target in targets - LEAVES), name
        if not name.startswith(("usbackbones.commands", "usbackbones.cli")):
            assert not {target for target in targets if target.startswith("usbackbones.commands")}, name
        if name.startswith("usbackbones.commands."):
            assert not {t for t in targets if t.startswith("usbackbones.commands.")} - {"usbackbones.commands.terminal"}


def test_the_arrows_of_training_hold():
    for name, targets in graph().items():
        if name == "training.engine":
            # It knows a method only through the protocol.
            assert not {target for target in targets if target.startswith("training.methods.")} - {
                "training.methods.base"
            }
        if name.startswith("training.methods."):
            assert not targets & {"training.engine", "training.pretrain", "training.recipes", "training.release"}, name
        if name == "training.losses":
            assert targets <= {"training.distributed"}
        if name in ("training.heads", "training.distributed"):
            assert not targets, name


@pytest.fixture(scope="module")
def cost() -> dict:
    """What `import usbackbones` adds to `import timm`: seconds of CPU time, and the top-level names of new modules."""
    code = """
import json, sys, time
import timm
before = set(sys.modules)
start = time.process_time()
import usbackbones
seconds = time.process_time() - start
print(json.dumps({"seconds": seconds, "new": sorted(set(sys.modules) - before)}))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_importing_costs_little_more_than_timm(cost):
    # About 0.015 s of CPU time; the bound leaves room for a slow machine.
    assert cost["seconds"] < 0.05


def test_importing_loads_nothing_that_only_some_need(cost):
    heavy = {"pydicom", "nibabel", "av", "sklearn", "cv2", "scipy", "matplotlib", "pandas", "tqdm", "tyro"}
    assert not heavy & {name.split(".")[0] for name in cost["new"]}
    assert "torchvision.transforms.v2" not in cost["new"]


def test_every_public_name_is_there():
    import usbackbones

    assert {"read_clip", "Clip", "ClipError", "transforms", "embed", "register", "list_weights"} <= set(
        usbackbones.__all__
    )
    for name in usbackbones.__all__:
        assert getattr(usbackbones, name) is not None
        assert name in dir(usbackbones)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        usbackbones.nothing  # noqa: B018
