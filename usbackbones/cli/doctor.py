"""usbackbones doctor: checks an installation point by point, and says what to do about each fault."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from usbackbones.cli.options import AsJson
from usbackbones.cli.terminal import say, say_json

if TYPE_CHECKING:
    import numpy as np

    from usbackbones.hub.zoo import Weight

EXTRAS = {
    "bench": ("sklearn",),
    "train": ("cv2", "matplotlib", "yaml"),
    "dense": ("segmentation_models_pytorch",),
    "dicom": ("pydicom", "jpeg_ls", "pylibjpeg", "openjpeg", "rle"),
    "nifti": ("nibabel",),
    "parquet": ("pyarrow",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
}
"""The modules that each extra of this package brings; a test holds them to setup.cfg."""
STORED = {
    "1c188d8cb9b775c88a0ffa407162bf77f104d8387be576808fdc26c0f3ff4156": (0.7367911, 0.740452, 4.029552, 0.003627342),
}
"""By sha256 of a weight: the mean, the standard deviation, the largest and the first feature of `pattern()`."""
TOLERANCE = 1e-3
"""Of the largest feature: what fp32 on other hardware may differ by."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        what: that was looked at.
        status: "ok", "warn" (something that some people need does not work), "fail" (the package does not work).
        told: what was found.
        remedy: what to do; "" where all is well.
    """

    what: str
    status: Literal["ok", "warn", "fail"]
    told: str
    remedy: str = ""


def doctor_command(as_json: AsJson = False) -> int:
    """Check versions, names, weights, cache, network, device and extras, and say what to do.

    Works without a network. Exit code 1 if something fails that everybody needs; a warning is none.

    Args:
        as_json: print the findings as JSON.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            say(f"{finding.status:4}  {finding.what}: {finding.told}")
            if finding.remedy:
                say(f"      -> {finding.remedy}")
    counts = Counter(finding.status for finding in findings)
    if as_json:
        say_json({"findings": [asdict(finding) for finding in findings], "counts": counts})
    else:
        say(", ".join(f"{counts[status]} {status}" for status in ("ok", "warn", "fail")))
    return 1 if counts["fail"] else 0


def examine() -> Iterator[Finding]:
    """Every finding, in order; none takes longer than a few seconds, with or without a network."""
    for look in (_versions, _alias, _weights, _default_output, _cache, _network, _device, _extras):
        yield from look()


def pattern() -> np.ndarray:
    """A frame to try a model on, uint8 [96, 96]: made of whole numbers, so that it is the same everywhere."""
    import numpy as np

    row, column = np.mgrid[:96, :96]
    return ((row * row * 3 + column * column * 5 + row * column * 7) // 16 % 256).astype(np.uint8)


def summary(features: np.ndarray) -> tuple[float, float, float, float]:
    """Four numbers of features float32 [D], as `STORED` has them."""
    return float(features.mean()), float(features.std()), float(features.max()), float(features[0])


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    told = [f"python {platform.python_version()}"]
    try:
        needs = [Requirement(line) for line in metadata.requires("usbackbones") or ()]
    except metadata.PackageNotFoundError:
        needs = []
        told.append("usbackbones itself is not installed, it is used from a folder")
    bad = []
    for need in needs:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            bad.append(f"{need.name} is missing, {need} is needed")
            continue
        told.append(f"{need.name} {version}")
        if not need.specifier.contains(version, prereleases=True):
            bad.append(f"{need.name} is {version}, {need} is needed")
    if bad:
        yield Finding("versions", "fail", "; ".join(bad), "pip install --upgrade usbackbones")
    else:
        yield Finding("versions", "ok", ", ".join(told))


def _alias() -> Iterator[Finding]:
    from usbackbones.hub import registry
    from usbackbones.hub.entrypoints import announce

    if announce():
        yield Finding("timm alias", "ok", f"timm.create_model('{registry.OWNER}<arch>.<tag>') works")
    else:
        remedy = "write timm.create_model('us<arch>.<tag>'), or install an earlier timm"
        yield Finding("timm alias", "fail", "this timm parses names in another way", remedy)


def _weights() -> Iterator[Finding]:
    from usbackbones.hub import locate, registry
    from usbackbones.hub.errors import WeightsError

    for name in registry.list_weights():
        weight = registry.get_weight(name)
        try:
            places = locate.local_places(name, weight.folder)
            place = next((place for place in places if place.file.is_file()), None)
            if place is not None:
                locate.prove(place, weight)
                yield Finding(f"weight {name}", "ok", f"{place.file}, sha256 as released")
        except WeightsError as error:
            yield Finding(f"weight {name}", "fail", error.fault or str(error), error.remedy)


def _default_output() -> Iterator[Finding]:
    import numpy as np

    from usbackbones.features.extract import embed
    from usbackbones.hub import registry
    from usbackbones.hub.backbone import build_backbone
    from usbackbones.hub.errors import WeightsError

    name = registry.default_name()
    if name is None:
        yield Finding("default weight", "warn", "this version has none", "install a newer usbackbones")
        return
    try:
        model = build_backbone(name)
    except WeightsError as error:
        yield Finding("default weight", "fail", error.fault or str(error), error.remedy)
        return
    found, stored = summary(embed(model, pattern()[None])[0]), STORED.get(registry.get_weight(name).sha256)
    if stored is None:
        yield Finding("default weight", "ok" if np.isfinite(found).all() else "fail", f"{name} computes")
    elif np.abs(np.subtract(found, stored)).max() <= TOLERANCE * stored[2]:
        yield Finding("default weight", "ok", f"{name} gives its stored output")
    else:
        told = f"{name} gives {_digits(found)}, stored is {_digits(stored)}"
        yield Finding("default weight", "fail", told, "reinstall torch: it computes something else")


def _digits(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4f}" for number in numbers)


def _cache() -> Iterator[Finding]:
    from huggingface_hub import constants, try_to_load_from_cache

    from usbackbones.hub import registry
    from usbackbones.hub.zoo import FILE

    sound: list[str] = []
    damaged: list[str] = []
    for weight in map(registry.get_weight, registry.list_weights()):
        cached = try_to_load_from_cache(weight.hub_id, FILE, revision=weight.revision) if weight.revision else None
        if isinstance(cached, str):
            (sound if _is(weight, cached) else damaged).append(weight.name)
    folder = constants.HF_HUB_CACHE
    if damaged:
        told = f"{folder}: not the released file: {', '.join(damaged)}"
        yield Finding("cache", "warn", told, f"usbackbones fetch {' '.join(damaged)}")
    else:
        yield Finding("cache", "ok", f"{folder}: {len(sound)} of our weights, none damaged")


def _is(weight: Weight, file: str) -> bool:
    from usbackbones._files import sha256_of

    try:
        return sha256_of(Path(file)) == weight.sha256
    except OSError:
        return False


def _network() -> Iterator[Finding]:
    from huggingface_hub import constants

    from usbackbones.hub.locate import FOLDER_VARIABLE
    from usbackbones.hub.reachability import why_unreachable

    if constants.HF_HUB_OFFLINE:
        yield Finding("network", "ok", "not asked, HF_HUB_OFFLINE is set; what is here already works")
    elif reason := why_unreachable(constants.ENDPOINT):
        remedy = f"only needed for weights that are not here: set HF_ENDPOINT, a proxy, or {FOLDER_VARIABLE}"
        yield Finding("network", "warn", f"{constants.ENDPOINT} is not reached ({reason})", remedy)
    else:
        yield Finding("network", "ok", f"{constants.ENDPOINT} is reached")


def _device() -> Iterator[Finding]:
    import torch

    from usbackbones.features.precision import computes_in_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"no GPU, {os.cpu_count()} CPU cores"
    told = f"{name}; {'' if computes_in_bf16(device) else 'no '}bf16 in hardware"
    if device.type == "cpu" and torch.version.cuda and Path("/proc/driver/nvidia").exists():
        yield Finding("device", "warn", f"{told}; torch does not see the GPU of this machine", "check the driver")
    else:
        yield Finding("device", "ok", told)


def _extras(find: Callable[[str], object] = importlib.util.find_spec) -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find(module) is None]
        if missing:
            told = f"not installed: {', '.join(missing)}"
            yield Finding(f"extra {extra}", "warn", told, f"if you need it: pip install 'usbackbones[{extra}]'")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")
