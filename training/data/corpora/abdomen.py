"""Abdominal ultrasound: gallbladders of infants with and without biliary atresia."""

from pathlib import Path

from training.data.corpora.record import Corpus, read_labels
from training.data.manifest import Row

_LABELS = {"0": "biliary_atresia", "1": "not_biliary_atresia"}


def gallbladder_ba(root: Path) -> list[Row]:
    """The crops of both parts. The test part is from other hospitals, so its patient 3 is not the training part's."""
    return [
        Row(
            path=str(root / part / name),
            clip=f"{part}/{name}",
            group=f"{part}/{name.partition('_')[0]}",
            organ="gallbladder",
            label=label,
            licence="MIT",
        )
        for part in ("training_data", "test_data")
        for name, label in read_labels(root / part / "label.csv", _LABELS).items()
    ]


CORPORA = (
    Corpus(
        name="gallbladder_ba",
        what="4,546 gallbladder crops of 60 x 60 (Zhou et al., Nature Communications 2021, 12:1259)",
        where="https://www.nature.com/articles/s41467-021-21466-z",
        licence="MIT",
        layout="training_data/ and test_data/ with 3_0.jpg and label.csv (name, 0 or 1, no header)",
        patient="the part, and the number before the underscore: 1,439 patients",
        label="biliary_atresia or not_biliary_atresia",
        pretrain=False,
        read=gallbladder_ba,
        note="kept for evaluation",
    ),
)
