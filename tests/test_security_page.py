"""Each claim of docs/security.md is held by a test that exists."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def test_every_claim_names_its_test():
    text = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    claimed, _, _ = text.partition("## What is not claimed")
    claims = [line for line in claimed.splitlines() if line.startswith("- ")]
    assert len(claims) > 15
    for claim in claims:
        named = re.search(r"\((tests/\S+\.py)::(test_\w+)\)$", claim)
        assert named, f"no test holds this claim: {claim}"
        assert f"def {named[2]}(" in (REPOSITORY / named[1]).read_text(encoding="utf-8"), claim
