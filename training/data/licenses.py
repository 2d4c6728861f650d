"""Which weights may be trained on data under a licence."""

import re
from collections.abc import Iterable
from typing import Literal

from training.data.errors import CorpusError

Tier = Literal["open", "nc"]

_VERSIONS = ("", " 1.0", " 2.0", " 2.5", " 3.0", " 4.0")
# 'open' data may go into every weight; 'nc' data only into weights that are themselves non-commercial. The emergency
# licence grants research use only, hence 'nc'. What is not listed here is not allowed, however alike it looks: a word
# more ("no derivatives") may take all rights away.
_LICENCES: dict[Tier, tuple[str, ...]] = {
    "open": (
        *("CC0", "CC0 1.0", "MIT", "MIT License", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause"),
        *(f"CC BY{version}" for version in _VERSIONS),
    ),
    "nc": (
        *(f"CC BY-NC{version}" for version in _VERSIONS),
        *(f"CC BY-NC-SA{version}" for version in _VERSIONS),
        "COVID-19 emergency license",
    ),
}
KNOWN = ", ".join(licence for licences in _LICENCES.values() for licence in licences)
"""All spellings, for people; case does not matter, nor whether spaces or hyphens part the words."""

# The licence of weights that were trained on a tier; share-alike data make the nc weights share-alike.
WEIGHTS_LICENCE: dict[Tier, str] = {"open": "Apache-2.0", "nc": "CC-BY-NC-SA-4.0"}


def _folded(licence: str) -> str:
    return re.sub(r"[\s-]+", " ", licence).strip().casefold()


_TIERS = {_folded(licence): tier for tier, licences in _LICENCES.items() for licence in licences}


def tier_of(licence: str) -> Tier | None:
    """The tier of weights that data under this licence may go into, or None for no tier at all."""
    return _TIERS.get(_folded(licence))


def tier_of_all(licences: Iterable[str]) -> Tier:
    """The tier of a weight trained on data under all of these licences.

    Raises:
        CorpusError: if a licence allows no weight at all, naming it.
    """
    tiers = {licence: tier_of(licence) for licence in licences}
    refused = sorted(licence or "(none stated)" for licence, tier in tiers.items() if tier is None)
    if refused:
        raise CorpusError(
            f"no weight may be trained on data under: {', '.join(refused)}. Leave those clips out; if that is but "
            f"another spelling, write one of: {KNOWN}."
        )
    return "nc" if "nc" in tiers.values() else "open"
