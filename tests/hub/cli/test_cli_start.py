"""The program understands its words before it loads torch; the package as a library registers at once."""

import json

import pytest

from tests.conftest import python

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
