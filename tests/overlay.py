"""Other versions of our dependencies, put before the installed ones on the path of a subprocess."""

import subprocess
import sys
from pathlib import Path

import pytest

# The oldest that setup.cfg allows, with what this huggingface_hub needs and a newer one does not.
OLDEST = ("timm==1.0.29", "huggingface_hub==0.36.2", "requests", "urllib3", "charset_normalizer", "idna", "certifi")
# huggingface_hub 1 speaks through httpx, 2 through httpx2.
MIDDLE = ("huggingface_hub==1.33.0", "httpx==0.28.1", "httpcore", "h11", "anyio", "certifi", "idna", "click")
CLIENTS: dict[str, tuple[str, ...]] = {"installed": (), "oldest": OLDEST, "middle": MIDDLE}


def overlay(requirements: tuple[str, ...]) -> list[Path]:
    """A folder that has these packages, made once a machine; none for no requirement. Skips if it cannot be made."""
    if not requirements:
        return []
    target = Path.home() / ".cache" / "usbackbones-tests" / "-".join(requirements[:2]).replace("==", "-")
    if not target.is_dir():
        temporary = target.with_name(f"{target.name}.part")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(temporary)]
        install = subprocess.run([*pip, *requirements], capture_output=True, text=True, timeout=200)
        if install.returncode != 0:
            pytest.skip(f"{requirements[0]} cannot be installed: {install.stderr.strip().splitlines()[-1]}")
        temporary.rename(target)
    return [target]
