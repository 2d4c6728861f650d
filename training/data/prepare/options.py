"""Options of `training.data.prepare.run` on the command line, checked before anything is decoded."""

from dataclasses import dataclass, fields

from training.data.errors import CorpusError
from usbackbones.clips.cleaning.clean import Cleaning


@dataclass(frozen=True)
class Clean(Cleaning):
    """Whether clips are cleaned, and how.

    Attributes:
        enabled: leave out what is not ultrasound; otherwise frames are stored as they are.
    """

    enabled: bool = False

    def steps(self, wanted: bool) -> Cleaning:
        """The options of the cleaning itself; `wanted` says whether anything is going to be cleaned.

        Raises:
            CorpusError: if they contradict one another, or there are some and nothing is.
        """
        chosen = {option.name: getattr(self, option.name) for option in fields(Cleaning)}
        changed = [
            f"--clean.{'no-' * (chosen[option.name] is False)}{option.name.replace('_', '-')}"
            for option in fields(Cleaning)
            if chosen[option.name] != option.default
        ]
        if changed and not wanted:
            raise CorpusError(f"{', '.join(changed)} would clean nothing: give --clean.enabled too, or leave it out")
        if self.overlays != "keep" and not self.report:
            raise CorpusError(
                f"--clean.overlays {self.overlays} with --clean.no-report: what is not looked for cannot be removed, "
                "leave one of them out"
            )
        return Cleaning(**chosen)


def part_of(text: str) -> tuple[int, int]:
    """Turn "2/3" into (2, 3).

    Raises:
        CorpusError: if it is not i/n with 1 <= i <= n.
    """
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise CorpusError(f"--shard {text}: give i/n, for example 1/3, 2/3 and 3/3 on three machines")
    return int(first), int(second)
