"""Share among commands the options that several have, and what --clean and --preview ask for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from usbackbones._words import plural
from usbackbones.cli.terminal import CommandError, say

AsJson = Annotated[bool, arg(name="json")]
Out = Annotated[Path, arg(aliases=["-o"])]
OptionalOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]
Count = Annotated[int | None, arg(metavar="N")]
Number = Annotated[float | None, arg(metavar="N")]
Sheet = Annotated[Path | None, arg(metavar="PNG")]
Model = Annotated[str | None, arg(metavar="NAME")]
Trained = Annotated[Positional[str], arg(metavar="MODEL")]
Label = Annotated[str, arg(metavar="COLUMN")]
LicenseName = Annotated[str, arg(name="license", metavar="NAME")]
Foreground = Annotated[str, arg(metavar="V,V")]
Classes = Annotated[str, arg(metavar="NAME=V,NAME=V")]
ResizeMasks = Annotated[Literal["", "nearest"], arg(metavar="nearest")]


def check_cleaning(clean: bool) -> None:
    """Refuse --clean where it cannot be done, before anything is read."""
    from usbackbones.clips.cleaned import why_not

    if clean and (reason := why_not()):
        raise CommandError(f"--clean: {reason}")


def write_preview(clips: Callable[[], Sequence[Path]], sheet: Path) -> None:
    """Write the image of --preview and say so; the name is looked at before the clips."""
    from usbackbones.clips.cleaned import preview

    check_cleaning(True)
    if sheet.suffix.lower() != ".png" or sheet.is_dir():
        raise CommandError(f"--preview {sheet} is no name for an image; write for example --preview sheet.png")
    shown = preview(clips(), sheet)
    say(f"{sheet}: {plural(shown, 'clip')} before and after the cleaning")
