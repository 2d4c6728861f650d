"""Errors of names, networks and weights; each class is also the builtin that code unaware of us would catch."""

from pathlib import Path
from typing import Self

from usbackbones._errors import Refused
from usbackbones.hub.zoo import FILE, Weight


class UnknownModel(RuntimeError):
    """A name of ours that is not registered. A RuntimeError because that is what timm raises for its own names."""


class BackboneError(Refused):
    """A network that cannot be built, or that does not fit its use; one line that names the fault and the remedy."""


class WeightsError(Exception):
    """A weight that could not be loaded; the message names the weight, the place and the remedy.

    Attributes:
        name: `<arch>.<tag>`; None when no weight was chosen yet.
        repository: its id on the Hub.
        revision: the 40-hex commit; None when it is not on the Hub.
        file: the path of the file at fault, or its name in the repository.
        fault: what was wrong.
        remedy: what to do.
    """

    name: str | None = None
    repository: str | None = None
    revision: str | None = None
    file: str = FILE
    fault: str = ""
    remedy: str = ""

    @classmethod
    def about(cls, weight: Weight, fault: str, remedy: str, file: Path | None = None) -> Self:
        """Make the error of one weight; `fault` and `remedy` are sentences without their last full stop."""
        # Not in __init__: an exception must be made of its message alone to survive a process pool.
        commit = f"commit {weight.revision}, file {FILE}" if weight.revision else "not on the Hub yet"
        error = cls(f"{weight.name} ({weight.hub_id}, {commit}): {fault}. {remedy}.")
        error.name, error.repository, error.revision = weight.name, weight.hub_id, weight.revision
        error.file, error.fault, error.remedy = str(file or FILE), fault, remedy
        return error


class WeightsNotFound(WeightsError, FileNotFoundError):
    """No place has the file."""


class WeightsUnavailable(WeightsError, ConnectionError):
    """The Hub has to be asked and cannot be reached, or its answer cannot be stored."""


class WeightsAccess(WeightsError, PermissionError):
    """The Hub refuses: a private or gated repository."""


class WeightsCorrupt(WeightsError, ValueError):
    """The file is there but is not what was released."""
