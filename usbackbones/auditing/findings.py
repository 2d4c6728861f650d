"""Findings of an audit: serious ones are proven facts or alarms of the tests; accepted ones are named in a baseline."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from usbackbones._files import atomic_write
from usbackbones.data.item import DataError


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        key: the same for the same finding in every run, as "tells:container" or "twins-opposite:1f3c...".
        text: for a person; names no file and no patient.
        serious: a proven fact, or a no-tissue row that tells the target.
        accepted: the reason that a baseline gives; "" where none does.
    """

    key: str
    text: str
    serious: bool
    accepted: str = ""


def key_of(kind: str, members: Iterable[str]) -> str:
    """A key for a finding about these files or patients that shows none of them."""
    return f"{kind}:{sha256(chr(0).join(sorted(members)).encode()).hexdigest()[:12]}"


def read_baseline(file: Path) -> dict[str, str]:
    """The accepted findings of an earlier audit.json: {key: reason}.

    A finding is accepted where somebody has filled its field "accepted" with a reason.

    Raises:
        DataError: if the file is no audit.json.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {one["key"]: one["accepted"] for one in content["findings"] if one.get("accepted")}
    except OSError as error:
        raise DataError(f"--baseline {file} cannot be read ({error.strerror}): give the audit.json of a run") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"--baseline {file} is no audit.json: give the one that an audit wrote") from error


def accepted(findings: Sequence[Finding], baseline: Mapping[str, str]) -> list[Finding]:
    """The findings, with the baseline's reasons."""
    return [Finding(one.key, one.text, one.serious, baseline.get(one.key, "")) for one in findings]


def write_junit(file: Path, findings: Sequence[Finding], checks: Sequence[str]) -> None:
    """Write JUnit XML: a case for each of `checks` without a finding, which passed, and one for each serious finding.

    A finding that nobody accepted is a failure, one that a baseline accepts is skipped.
    """
    serious = [one for one in findings if one.serious]
    failing = [one for one in serious if not one.accepted]
    passed = [name for name in checks if not any(one.key.startswith(name) for one in serious)]
    suite = Element("testsuite", name="usbackbones audit", tests=str(len(passed) + len(serious)))
    suite.set("failures", str(len(failing)))
    suite.set("skipped", str(len(serious) - len(failing)))
    for name in passed:
        SubElement(suite, "testcase", classname="usbackbones.audit", name=name)
    for one in serious:
        case = SubElement(suite, "testcase", classname="usbackbones.audit", name=one.key)
        if one.accepted:
            SubElement(case, "skipped", message=f"accepted: {one.accepted}")
        else:
            SubElement(case, "failure", message=one.text)
    with atomic_write(file) as stream:
        stream.write(b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite) + b"\n")
