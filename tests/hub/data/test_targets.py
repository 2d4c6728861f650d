"""Labels as classes or numbers: decided by the labels, told, or asked for."""

from pathlib import Path

import pytest

from usbackbones.data.item import DataError, Item
from usbackbones.data.targets import decide_target, number_of


def items(labels):
    return [Item(Path(f"{n}.png"), str(label), str(n)) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "kind", "told"),
    [
        (["benign", "malignant"], "class", ""),
        (["1", "unknown"], "class", ""),
        ([0, 1, 1], "class", "the integers 0 to 1: predicted as 2 classes"),
        ([2, 3, 4, 5], "class", "the integers 2 to 5"),
        (range(11), "number", "11 different numbers, from 0 to 10: predicted as a number"),
        ([0.5 * n for n in range(30)], "number", "from 0 to 14.5"),
    ],
)
def test_labels_decide(labels, kind, told):
    notes = []
    assert decide_target(items(labels), "auto", notes.append) == kind
    assert told in "".join(notes) and bool(notes) == bool(told)


@pytest.mark.parametrize("labels", [[23, 45, 67], [0.5, 1.5], [1, 2, 4]])
def test_a_question_is_asked_and_its_answer_taken(labels):
    with pytest.raises(DataError, match="give --target class or --target number"):
        decide_target(items(labels), "auto", str)
    assert decide_target(items(labels), "class", str) == "class"
    assert decide_target(items(labels), "number", str) == "number"


def test_a_label_that_is_no_number_is_named():
    with pytest.raises(DataError, match=r"1 labels are no finite number \(.*: 'n/a'\): correct them"):
        decide_target(items([1.5, "n/a"]), "number", str)
    with pytest.raises(DataError, match=r"'n/a'\), among 20 different numbers: correct them"):
        decide_target(items([*range(20), "n/a"]), "auto", str)  # a slip, and not 21 classes
    assert decide_target(items([*range(20), "n/a"]), "class", str) == "class"
    assert (number_of("1e3"), number_of("nan"), number_of("inf"), number_of("x")) == (1000.0, None, None, None)
