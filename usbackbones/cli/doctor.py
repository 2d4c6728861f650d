"""usbackbones doctor: is all well here, and what to do if not."""

import json
from collections import Counter
from dataclasses import asdict

from usbackbones.cli.terminal import AsJson, say


def doctor_command(as_json: AsJson = False) -> int:
    """Look at versions, names, weights, cache, network, device and extras, and say what to do.

    Works without a network. Exit code 1 if something fails that everybody needs; a warning is none.

    Args:
        as_json: print the findings as JSON.
    """
    from usbackbones.cli.installation import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            say(f"{finding.status:4}  {finding.what}: {finding.told}")
            if finding.remedy:
                say(f"      -> {finding.remedy}")
    counts = Counter(finding.status for finding in findings)
    if as_json:
        say(json.dumps({"findings": [asdict(finding) for finding in findings], "counts": counts}, indent=2))
    else:
        say(", ".join(f"{counts[status]} {status}" for status in ("ok", "warn", "fail")))
    return 1 if counts["fail"] else 0
