"""The table of fine-tuned networks and frozen probes: whole groups, the log, and the document that shows it."""

import json
from dataclasses import asdict, replace

from training.data.manifest import Row
from training.study.finetuning import Fold, limited, read_log, table_of

ONE = Fold("busi", "resnet18.tag", 0, 30, 9, 0.5, 0.6, 0.7, 0.8, True, 1e-3, 12)


def test_limit_keeps_whole_groups_whatever_the_order():
    rows = [Row(f"{n}.png", str(n), f"g{n // 3}", label="a") for n in range(30)]
    kept = limited(rows, 10)
    groups = {row.group for row in kept}
    assert len(kept) <= 10 and len(kept) == 3 * len(groups) > 0
    assert {row.path for row in limited(rows[::-1], 10)} == {row.path for row in kept}


def test_table_is_mean_lowest_and_highest_of_the_folds():
    folds = [ONE, replace(ONE, fold=1, frozen=0.7, tuned=0.7, kept=False), replace(ONE, fold=2, frozen=0.3, tuned=0.5)]
    wanted = "0.500 [0.300, 0.700] | 0.600 [0.500, 0.700] | +0.100 [+0.000, +0.200] | +0.100 [+0.100, +0.100]"
    assert f"| busi | resnet18.tag | 30 | 2 of 3 | {wanted} |" in table_of(folds)


def test_log_is_read_back(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(asdict(ONE)) + "\n")
    assert read_log(log) == [ONE] and read_log(tmp_path / "none") == []
