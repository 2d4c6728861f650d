"""Numbers in words that claim no more than is known: counts, values with their interval, shares."""

import math
from collections.abc import Mapping

FEW = 10
"""Groups below which a percentile interval over them is too narrow to rely on."""


def plural(number: int, noun: str) -> str:
    """A count with its noun, as "1 file" or "3 files"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def rounded(value: float | None, digits: int = 3) -> str:
    """A number with so many digits; one that is not quite 0 or 1 is not rounded to it, as ">0.999"."""
    if value is None or not math.isfinite(value):
        return "not defined"
    told, edge = f"{value:.{digits}f}", 10.0**-digits
    if float(told) == 0 and value != 0:
        return f"<{edge:.{digits}f}" if value > 0 else f">-{edge:.{digits}f}"
    return f">{1 - edge:.{digits}f}" if float(told) == 1 and value < 1 else told


def with_interval(numbers: Mapping[str, float | None], digits: int = 3) -> str:
    """A value with its 95 % interval, as "0.712 [0.601, 0.803]"; what is not there is said. Ends are plainly rounded.

    Args:
        numbers: {"value", "low", "high"}; NaN or None where there is none.
        digits: after the point.
    """
    value, ends = rounded(numbers["value"], digits), [numbers["low"], numbers["high"]]
    if value == "not defined":
        return value
    known = [f"{end:.{digits}f}" for end in ends if end is not None and math.isfinite(end)]
    if len(known) < len(ends):
        return f"{value} (no interval)"
    # Where every resample gives the same, as where all are right, it cannot see how unsure the value is.
    return f"{value} (no interval: no resample differs)" if ends[0] == ends[1] else f"{value} [{', '.join(known)}]"


def lasted(seconds: float) -> str:
    """A time in words, as "8 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else "less than a second"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(part: float, digits: int = 0) -> str:
    """A share 0..1 in percent; 0 % and 100 % are said of none and all alone, as "<1 %" and ">99 %"."""
    told, edge = f"{part:.{digits}%}", 10.0**-digits
    if float(told[:-1]) == 0 and part > 0:
        return f"<{edge:.{digits}f}%"
    return f">{100 - edge:.{digits}f}%" if float(told[:-1]) == 100 and part < 1 else told


def intervals_over(groups: int, unit: str, *, joined: bool = False) -> str:
    """What the brackets of a result are, and how far they can be relied on.

    Args:
        groups: that are resampled.
        unit: what one is, "patient" or "group"; "" where nobody tells, and each file is taken for one.
        joined: near-duplicates of different groups count as one.
    """
    what = plural(groups, unit or "file")
    if groups < 2:
        return f"no intervals: {what} to evaluate on, two at least are needed"
    told = f"brackets: 95 % intervals over {what}"
    told += "" if unit else ", each taken for a patient of its own"
    told += ", near-duplicates as one" * joined
    return told + f"; over fewer than {FEW} they are too narrow to rely on" * (groups < FEW)
