"""Which weights may be trained on data under a licence."""

import re
from collections.abc import Iterable
from typing import Literal

from training.data.errors import CorpusError

Tier = Literal["open", "nc"]

# 'open' data may go into every weight; 'nc' data only into weights that are themselves non-commercial. The emergency
# licence grants research use only, hence 'nc'.
_OPEN = re.compile(r"^(CC0|CC BY \d|CC BY$|CC-BY-\d|MIT)", re.IGNORECASE)
_NC = re.compile(r"^(CC BY-NC(?! ?-?ND)|CC-BY-NC(?!-ND)|COVID-19 emergency license)", re.IGNORECASE)

# The licence of weights that were trained on a tier; share-alike data make the nc weights share-alike.
WEIGHTS_LICENCE: dict[Tier, str] = {"open": "Apache-2.0", "nc": "CC-BY-NC-SA-4.0"}


def tier_of(licence: str) -> Tier | None:
    """The tier of weights that data under this licence may go into, or None for no tier at all."""
    if _OPEN.match(licence.strip()):
        return "open"
    return "nc" if _NC.match(licence.strip()) else None


def tier_of_all(licences: Iterable[str]) -> Tier:
    """The tier of a weight trained on data under all of these licences.

    Raises:
        CorpusError: if a licence allows no weight at all, naming it.
    """
    tiers = {licence: tier_of(licence) for licence in licences}
    refused = sorted(licence or "(none stated)" for licence, tier in tiers.items() if tier is None)
    if refused:
        raise CorpusError(f"no weight may be trained on data under: {', '.join(refused)}. Leave those clips out.")
    return "nc" if "nc" in tiers.values() else "open"
