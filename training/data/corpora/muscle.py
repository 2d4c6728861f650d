"""Muscle ultrasound: the sequences of TimTrack."""

from pathlib import Path

from training.data.corpora.record import Corpus, read_csv
from training.data.errors import CorpusError
from training.data.manifest import Row


def timtrack_muscle(root: Path) -> list[Row]:
    """The sequences and stills of TimTrack, one clip a folder; a group is all that is of one subject."""
    rows: dict[str, Row] = {}
    for record in read_csv(root / "groups.csv", ("path", "group", "subject", "licence")):
        folder = record["path"].rpartition("/")[0]
        row = Row(
            path=str(root / folder),
            clip=folder,
            group=_subject(folder, record["subject"]),
            organ="muscle",
            licence=record["licence"],
            source="timtrack_muscle",
            anatomy=_muscle(folder),
        )
        if rows.setdefault(folder, row) != row:
            raise CorpusError(f"{root / 'groups.csv'}: the frames of {folder} differ in subject or licence")
    return list(rows.values())


def _subject(folder: str, subject: str) -> str:
    """The two gastroc_* sequences name no subject and may be of one person; each GM_* still is taken for one."""
    return subject or ("gastroc" if folder.startswith("gastroc") else folder)


def _muscle(folder: str) -> str:
    """GM is the medial gastrocnemius; the p6 sequences are Drazan's, who imaged the gastrocnemius; S* do not tell."""
    return "gastrocnemius" if folder.startswith(("gastroc", "GM_", "p6_")) else ""


CORPORA = (
    Corpus(
        name="timtrack_muscle",
        what="29 muscle sequences and 30 stills (van der Zee & Kuo 2022; Drazan 2019; Seynnes & Cronin 2020)",
        where="https://github.com/timvanderzee/ultrasound-automated-algorithm",
        licence="per file",
        layout="groups.csv (path, group, subject, order, licence), one folder of JPEG a sequence",
        patient="column subject; the two gastroc_* sequences together, each GM_* still by itself",
        label="",
        pretrain=True,
        read=timtrack_muscle,
        note="the frames of a sequence are several steps apart",
    ),
)
