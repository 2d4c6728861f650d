"""The command line: usbackbones COMMAND. Each command is a file of `usbackbones.cli`.

Results go to stdout, all else to stderr; with --json stdout is one JSON object, also when a command is refused. A slip
of the user is one line, never a traceback. Words are understood before torch is loaded, so that help is quick.
"""

import contextlib
import functools
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import tyro

from usbackbones._errors import Refused
from usbackbones.cli.audit import audit_command
from usbackbones.cli.convert import convert_command
from usbackbones.cli.demo import demo_command
from usbackbones.cli.doctor import doctor_command
from usbackbones.cli.embed import embed_command
from usbackbones.cli.evaluate import evaluate_command
from usbackbones.cli.export import export_command
from usbackbones.cli.fetch import fetch_command
from usbackbones.cli.finetune import finetune_command
from usbackbones.cli.pack import pack_command
from usbackbones.cli.predict import predict_command
from usbackbones.cli.probe import probe_command
from usbackbones.cli.segment import segment_command
from usbackbones.cli.terminal import say, tell
from usbackbones.cli.weights import info_command, list_command

COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_command,
    "info": info_command,
    "fetch": fetch_command,
    "embed": embed_command,
    "audit": audit_command,
    "probe": probe_command,
    "finetune": finetune_command,
    "segment": segment_command,
    "predict": predict_command,
    "evaluate": evaluate_command,
    "convert": convert_command,
    "pack": pack_command,
    "export": export_command,
    "demo": demo_command,
    "doctor": doctor_command,
}
DESCRIPTION = """Ultrasound-pretrained backbones for timm. Not a medical device.

Every command takes --json: one object on stdout, all else on stderr.
Exit codes: 0 done, clips that could not be read were named and skipped; 1 done,
but a weight or a check failed; 2 refused; 130 interrupted.
Completion for bash, zsh and fish: see docs/cli.md."""
REFUSED, INTERRUPTED = 2, 130
_FRAME = re.compile("[─│╭╮╰╯]")  # what the parser draws around its errors


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit as a program does; 0 is an ordinary return.

    Raises:
        SystemExit: 0 after help, 1 when a weight or a check failed, 2 when it was refused, 130 when interrupted.
    """
    words = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in words
    if again := _given_again(words):
        line = f"{again} is given more than once: give it once, with all its values"
        tell(line)
        _exit(REFUSED, line, as_json)
    job = _understood(words, as_json)
    from usbackbones.hub.entrypoints import announce
    from usbackbones.hub.errors import UnknownModel, WeightsError

    announce()  # timm knows our names from here on
    try:
        code = job()
    except (Refused, UnknownModel, WeightsError, OSError) as error:
        line = " ".join(str(error).split())
        tell(line)
        _exit(REFUSED, line, as_json)
    except KeyboardInterrupt:
        line = "interrupted: give the same command again"
        tell(line)
        _exit(INTERRUPTED, line, as_json)
    if code:
        sys.exit(code)


def _given_again(words: Sequence[str]) -> str:
    """The first option that stands twice, of which the parser would keep the last alone; empty if there is none."""
    before = words[: words.index("--")] if "--" in words else words
    options = [word.partition("=")[0] for word in before if word.startswith("--") or word == "-o"]
    return next((option for number, option in enumerate(options) if option in options[:number]), "")


def _understood(words: list[str], as_json: bool) -> Callable[[], int | None]:
    """The command with its arguments, not yet run."""
    told, complaint = io.StringIO(), io.StringIO()
    listing = not words or words[0].startswith("-")  # of all commands, where one line of each is enough
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(complaint):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _later(command, listing) for name, command in COMMANDS.items()},
                prog="usbackbones",
                description=DESCRIPTION,
                args=words,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        sys.stdout.write(_wrapped(told.getvalue()) if {"-h", "--help"} & set(words) else told.getvalue())
        sys.stderr.write(complaint.getvalue())
        if stop.code:
            _exit(REFUSED, " ".join(_FRAME.sub(" ", complaint.getvalue()).split()), as_json)
        raise


def _later(command: Callable[..., int | None], listing: bool) -> Callable[..., Any]:
    """The same arguments and help, but to be called is only to be understood."""

    @functools.wraps(command)
    def understood(*args: Any, **kwargs: Any) -> Callable[[], int | None]:
        return functools.partial(command, *args, **kwargs)

    if listing:
        understood.__doc__ = (command.__doc__ or "").split("\n\n")[0]
    return understood


def _wrapped(text: str) -> str:
    """A help text no wider than a terminal; the parser wraps its tables and leaves the rest as it is."""
    lines = text.replace("{" + ",".join(COMMANDS) + "}", "COMMAND ...").splitlines()
    width = shutil.get_terminal_size().columns
    indents = ["    " if line.startswith("usage") else " " * (len(line) - len(line.lstrip())) for line in lines]
    wrapped = (
        textwrap.fill(line.rstrip(), width, subsequent_indent=indent)
        for line, indent in zip(lines, indents, strict=True)
    )
    return "\n".join(wrapped).rstrip() + "\n"


def _exit(code: int, error: str, as_json: bool) -> NoReturn:
    if as_json:
        say(json.dumps({"error": error}))
    sys.exit(code)
