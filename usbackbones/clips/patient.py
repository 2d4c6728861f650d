"""The patient of a file, as a pseudonym from its DICOM header; no pixel is read.

Which source tells the patients of a data set apart is decided in usbackbones/data/patients.py.
"""

from pathlib import Path

from usbackbones.clips.dicom.header import read_header
from usbackbones.clips.dicom.identity import BadSalt, identify
from usbackbones.clips.formats.base import Facts, Request
from usbackbones.clips.formats.kinds import file_kind

__all__ = ["BadSalt", "header_facts", "patient_of"]


def patient_of(path: Path) -> str | None:
    """The pseudonym that `read_clip` gives; None for other files than DICOM, and where the header names nobody.

    Raises:
        BadSalt: if there is no salt to make pseudonyms with.
        ClipError: if the header cannot be read.
    """
    facts = header_facts(path)
    return facts.patient if facts else None


def header_facts(path: Path) -> Facts | None:
    """The pseudonyms in the header of a DICOM file, None for other files; raises as `patient_of` does."""
    kind = file_kind(path)
    if kind is None or kind[0] != "dicom":
        return None
    facts, faults = Facts(), list[str]()
    header = read_header(path, kind[1] == "bare")
    identify(header.dataset, Request(path, 1, faults.append, identify=True), facts)
    if faults:
        raise BadSalt(faults[0])
    return facts
