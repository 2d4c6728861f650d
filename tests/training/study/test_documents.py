"""The pages of studies show what their logs hold and nothing else."""

import pytest

from tests.conftest import REPOSITORY
from training.benchmark.markdown import write_between
from training.study import dense, finetuning


@pytest.mark.parametrize(("study", "marker"), [(dense, "dense"), (finetuning, "fine-tuned")])
def test_document_shows_the_log_and_nothing_else(study, marker, tmp_path):
    committed = (REPOSITORY / study.DOCUMENT).read_text(encoding="utf-8")
    copy = tmp_path / "page.md"
    copy.write_text(committed, encoding="utf-8")
    write_between(copy, marker, study.table_of(study.read_log()))
    assert copy.read_text(encoding="utf-8") == committed
    bare = tmp_path / "bare.md"
    bare.write_text("no marks")
    with pytest.raises(ValueError, match=marker):
        write_between(bare, marker, "table")
