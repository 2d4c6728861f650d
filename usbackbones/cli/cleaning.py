"""Share among commands the options --clean and --preview."""

from collections.abc import Callable, Sequence
from pathlib import Path

from usbackbones._words import plural
from usbackbones.cli.terminal import CommandError, say


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
