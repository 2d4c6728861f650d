"""The words of the product: first lines of modules, US spelling of what Python names, and phrases of the field."""

import ast
import re

import pytest

from tests.conftest import REPOSITORY

FILES = sorted(file for package in ("usbackbones", "training") for file in (REPOSITORY / package).rglob("*.py"))
QUESTION = re.compile(r"(What|Whether|How)\b")
STIFF = re.compile(r"\b(cannot be had|could not be had|anew|judged|less the better)\b")
"""Turns of phrase that the field does not use: could not be loaded, again, evaluated, lower is better."""
BRITISH = re.compile(r"(?i)quantise|synchronise|normalise|summarise|neighbour|centre|optimiser_of|colour|behaviour")


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


RECORDED = "judged"
"""The key under which reports of masks count what was evaluated."""


def strings(source: str) -> set[str]:
    """Every string of a source, docstrings and pieces of f-strings included."""
    nodes = ast.walk(ast.parse(source))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_nothing_says_it_stiffly():
    found = {str(file.relative_to(REPOSITORY)): strings(file.read_text(encoding="utf-8")) for file in FILES}
    found |= {page.name: {page.read_text(encoding="utf-8")} for page in (REPOSITORY / "docs").rglob("*.md")}
    wrong = {file: [text for text in held if STIFF.search(text) and text != RECORDED] for file, held in found.items()}
    assert {file: held for file, held in wrong.items() if held} == {}


@pytest.mark.parametrize(
    ("line", "question"), [("What a file is.", True), ("Whatever", False), ("Read a file.", False)]
)
def test_a_question_is_seen(line, question):
    assert bool(QUESTION.match(first_line(f'"""{line}"""'))) == question


def test_a_british_name_is_seen():
    assert BRITISH.search(*names("quantise"))


def test_a_stiff_phrase_is_seen():
    assert STIFF.search(*strings('f"{name} cannot be had"'))
    assert not STIFF.search("could not be loaded")
