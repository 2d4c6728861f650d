"""The words of the product: first lines of modules, and US spelling of what Python names."""

import ast
import re

import pytest

from tests.conftest import REPOSITORY

FILES = sorted(file for package in ("usbackbones", "training") for file in (REPOSITORY / package).rglob("*.py"))
QUESTION = re.compile(r"(What|Whether|How)\b")
BRITISH = re.compile(r"quantise|synchronise|normalise|summarise|neighbour|centred|optimiser_of")


def first_line(source: str) -> str:
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def names(source: str) -> set[str]:
    """Every name that a source binds or uses, attributes included."""
    nodes = list(ast.walk(ast.parse(source)))
    return {
        str(getattr(node, field))
        for node in nodes
        for field in ("id", "attr", "arg", "name")
        if isinstance(getattr(node, field, None), str)
    }


def test_no_module_begins_with_a_question():
    begun = {str(file.relative_to(REPOSITORY)): first_line(file.read_text(encoding="utf-8")) for file in FILES}
    assert {file: line for file, line in begun.items() if QUESTION.match(line)} == {}


def test_python_names_have_us_spelling():
    found = {str(file.relative_to(REPOSITORY)): names(file.read_text(encoding="utf-8")) for file in FILES}
    wrong = {file: [name for name in held if BRITISH.search(name)] for file, held in found.items()}
    assert {file: held for file, held in wrong.items() if held} == {}


@pytest.mark.parametrize(
    ("line", "question"), [("What a file is.", True), ("Whatever", False), ("Read a file.", False)]
)
def test_a_question_is_seen(line, question):
    assert bool(QUESTION.match(first_line(f'"""{line}"""'))) == question


def test_a_british_name_is_seen():
    assert BRITISH.search(*names("quantise"))
