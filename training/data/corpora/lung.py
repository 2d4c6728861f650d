"""Lung ultrasound: the POCUS collection."""

from pathlib import Path

from training.data.corpora.record import Corpus, read_csv
from training.data.manifest import Row


def pocus_lung(root: Path) -> list[Row]:
    """The videos of the POCUS lung collection; a label that its authors doubt is left out."""
    columns = ("path", "kind", "label", "label_uncertain", "licence", "group")
    return [
        Row(
            path=str(root / record["path"]),
            clip=record["path"],
            group=record["group"],
            organ="lung",
            label="" if record["label_uncertain"] == "1" else record["label"],
            licence=record["licence"],
        )
        for record in read_csv(root / "groups.csv", columns)
        if record["kind"] == "video"
    ]


CORPORA = (
    Corpus(
        name="pocus_lung",
        what="lung videos (Born et al., Applied Sciences 2021, 11(2):672)",
        where="https://github.com/jannisborn/covid19_ultrasound",
        licence="per file",
        layout="groups.csv (path, kind, label, label_uncertain, licence, group), pocus_videos/",
        patient="column group: the patient, or the source where patients are unknown",
        label="covid, bacterial_pneumonia, viral_pneumonia or regular",
        pretrain=True,
        read=pocus_lung,
        note="class and clinic are confounded: all clips named Reg_pat* are from one scanner",
    ),
)
