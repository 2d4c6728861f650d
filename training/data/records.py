"""Record of a released weight: its entry in zoo.json, and record.json beside its card.

zoo.json holds what loading needs. model_cards/<name>/record.json holds the rest: corpus, training, overlap with the
benchmarks and metrics. Nothing in `usbackbones` reads a record.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from training.data.errors import CorpusError
from usbackbones._files import atomic_write

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "usbackbones" / "zoo.json"
CARDS = ROOT / "model_cards"
RECORD = "record.json"
_LINE = 160


def read_json(file: Path) -> Any:
    """A JSON file that has to be there.

    Raises:
        CorpusError: if it is missing or is not JSON, naming it.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CorpusError(f"{file} is missing") from error
    except ValueError as error:
        raise CorpusError(f"{file} is not JSON: {error}") from error


def read_record(name: str, cards: Path = CARDS) -> dict[str, Any]:
    """The record of a weight, `<arch>.<tag>`.

    Raises:
        CorpusError: if there is none in its folder.
    """
    return read_json(cards / name / RECORD)


def patients_of(corpus: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(source, group) of all that a corpus holds: a group's name means nothing outside its source.

    A record without "patients" does not say which group is of which source, and every pair that may be counts.
    """
    of_source = corpus.get("patients") or dict.fromkeys(corpus.get("sources", ()), corpus.get("groups", ()))
    return {(source, group) for source, groups in of_source.items() for group in groups}


def write_all(files: Mapping[Path, bytes | str]) -> None:
    """Write files, the first one last; where the disk has no room for one, none, and those that are there stay."""
    with ExitStack() as unfinished:
        for file, content in files.items():
            stream = unfinished.enter_context(atomic_write(file))
            try:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()  # so that nothing is left to be written once the first file takes its name
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(file)) from error


def readable(value: Any, depth: int = 0, taken: int = 0) -> str:
    """A value as JSON, one member a line where the whole does not fit a line of 160 characters.

    Members are indented by `depth` + 1; the value's key has `taken` so many characters of the line.
    """
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, Mapping | list) or not value or depth + taken + len(flat) < _LINE:
        return flat
    indent = " " * (depth + 1)
    if isinstance(value, list):
        members = [readable(member, depth + 1) for member in value]
        opening, closing = "[]"
    else:
        keys = {key: f"{json.dumps(key, ensure_ascii=False)}: " for key in value}
        members = [told + readable(value[key], depth + 1, len(told)) for key, told in keys.items()]
        opening, closing = "{}"
    return f"{opening}\n{indent}" + f",\n{indent}".join(members) + f"\n{' ' * depth}{closing}"
