"""The program understands its words before it loads torch; the package as a library registers at once."""

import json

import pytest

from tests.conftest import python
from usbackbones.cli.main import _given_again, main

PROGRAM = """
import json, sys
sys.argv = ["/somewhere/bin/usbackbones", {word!r}]
from usbackbones.cli.main import main
try:
    main()
except SystemExit as stop:
    code = stop.code
heavy = sorted({{"torch", "timm", "torchvision", "sklearn", "av"}} & set(sys.modules))
sys.stderr.write("")
print("\\n" + json.dumps([code, heavy, len(sys.modules)]))
"""


@pytest.mark.parametrize("word", ["--help", "nope"])
def test_help_and_a_slip_load_no_torch(word):
    code, heavy, modules = json.loads(python(PROGRAM.format(word=word)).splitlines()[-1])
    assert code == (0 if word == "--help" else 2)
    assert heavy == []
    assert modules < 600  # torch and timm alone bring 2,000


def test_what_the_program_did_not_load_is_there_when_asked_for():
    code = """
import sys
sys.argv = ["/somewhere/bin/usbackbones"]
import usbackbones
assert "timm" not in sys.modules
print(len(usbackbones.list_weights()) > 0, usbackbones.alias_installed, "list_weights" in dir(usbackbones))
"""
    assert python(code).split() == ["True", "True", "True"]


@pytest.mark.parametrize(
    "words", [["--model", "a", "--model", "b"], ["-o", "a", "-o", "b"], ["--map=a=b", "--map", "c=d"]]
)
def test_an_option_that_stands_twice_is_refused(words, capsys):
    """The parser would keep the last one and say nothing."""
    with pytest.raises(SystemExit) as stop:
        main(["probe", "DATA", *words])
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().endswith("is given more than once: give it once, with all its values")


def test_what_stands_after_two_dashes_is_no_option():
    assert _given_again(["embed", "--", "--model", "--model"]) == ""
