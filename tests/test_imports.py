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
    "usbackbones._files": set(),
    # weights: where bytes come from, and what becomes of them
    "usbackbones.hub.zoo": set(),
    "usbackbones.hub.errors": {"usbackbones.hub.zoo"},
    "usbackbones.hub.checksum": set(),
    "usbackbones.hub.reachability": set(),
    "usbackbones.hub.download": {
        "usbackbones.hub.errors",
        "usbackbones.hub.reachability",
        "usbackbones.hub.checksum",
        "usbackbones.hub.zoo",
    },
    "usbackbones.hub.locate": {
        "usbackbones.hub.download",
        "usbackbones.hub.errors",
        "usbackbones.hub.checksum",
        "usbackbones.hub.zoo",
    },
    "usbackbones.hub.registry": {"usbackbones.hub.zoo"},
    "usbackbones.hub.entrypoints": {
        "usbackbones.hub.errors",
        "usbackbones.hub.locate",
        "usbackbones.hub.registry",
        "usbackbones.hub.zoo",
    },
    "usbackbones.hub.timm_folder": set(),
    "usbackbones.hub.torch_checkpoint": set(),
    "usbackbones.exporting.checkpoint_layouts": set(),
    "usbackbones.exporting.convert_checkpoint": {
        "usbackbones.hub.torch_checkpoint",
        "usbackbones.exporting.checkpoint_layouts",
        "usbackbones.hub.timm_folder",
    },
    "usbackbones.exporting.quantize": set(),
    "usbackbones.exporting.export": {
        "usbackbones.phantom.simulator",
        "usbackbones.exporting.quantize",
        "usbackbones.features.transforms",
    },
    "usbackbones.features.precision": set(),
    "usbackbones.features.transforms": set(),
    # clips and who they are of
    "usbackbones.data.near_duplicates": set(),
    "usbackbones.data.splits": {"usbackbones.data.near_duplicates"},
    "usbackbones.data.dataset": {"usbackbones.clips.read", "usbackbones.data.splits"},
    "usbackbones.phantom.simulator": {"usbackbones.phantom.tissue"},
    "usbackbones.phantom.tissue": set(),
    # judging
    "usbackbones.metrics.classification": set(),
    "usbackbones.finetuning.metalr": set(),
    "usbackbones.probing.probes": {
        "usbackbones.data.splits",
        "usbackbones.metrics.classification",
        "usbackbones.features.transforms",
    },
    "usbackbones.hub.random_weights": set(),
    "usbackbones.segmentation.feature_maps": {"usbackbones.hub.random_weights"},
    "usbackbones.segmentation.models": {"usbackbones.segmentation.feature_maps"},
    "usbackbones.segmentation.losses": set(),
    "usbackbones.metrics.segmentation": {"usbackbones.metrics.classification"},
    "usbackbones.segmentation.dataset": {
        *(f"usbackbones.{name}" for name in ("clips", "dataset", "dense_scores", "duplicates")),
    },
    "usbackbones.features.saliency": set(),
    "usbackbones.features.fold_batchnorm": set(),
    "usbackbones.features.extract": {
        "usbackbones.features.fold_batchnorm",
        "usbackbones.features.precision",
        "usbackbones.features.transforms",
    },
    "usbackbones.features.table": set(),
    "usbackbones.features.cache": {
        "usbackbones.clips.read",
        "usbackbones.hub.checksum",
        "usbackbones.clips.formats.kinds",
    },
    "usbackbones.probing.evaluate": {
        *(f"usbackbones.{name}" for name in ("dataset", "fewshot", "probe", "scores", "splits", "report")),
    },
    "usbackbones.report.markup": set(),
    "usbackbones.report.style": set(),
    "usbackbones.probing.few_shot": {
        "usbackbones.probing.probes",
        "usbackbones.metrics.classification",
        "usbackbones.data.splits",
    },
}
LEAVES = {"usbackbones._files", "usbackbones._version"}


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
    assert {"usbackbones", "usbackbones.hub.entrypoints", "training.pretrain"} <= edges.keys()
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
        if name == "usbackbones.clips.read" or name.startswith("usbackbones.clips.formats"):
            assert all(target.startswith("usbackbones.clips.formats") for target in targets - LEAVES), name
        if not name.startswith(("usbackbones.cli", "usbackbones.cli.main")):
            assert not {target for target in targets if target.startswith("usbackbones.cli")}, name
        if name.startswith("usbackbones.cli."):
            assert not {t for t in targets if t.startswith("usbackbones.cli.")} - {"usbackbones.cli.terminal"}


def test_the_arrows_of_training_hold():
    for name, targets in graph().items():
        if name == "training.engine.loop":
            # It knows a method only through the protocol.
            assert not {target for target in targets if target.startswith("training.methods.")} - {
                "training.methods.base"
            }
        if name.startswith("training.methods."):
            assert not targets & {
                "training.engine.loop",
                "training.pretrain",
                "training.recipes",
                "training.release.commands",
            }, name
        if name == "training.nn.contrastive_loss":
            assert targets <= {"training.nn.distributed"}
        if name in ("training.nn.heads", "training.nn.distributed"):
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
