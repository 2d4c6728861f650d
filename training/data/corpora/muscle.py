"""Muscle ultrasound: the sequences of TimTrack and the stills of DL_Track."""

from pathlib import Path, PurePosixPath

from training.data.corpora.record import LISTED, Corpus, present, read_csv
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


_TIMTRACKS = ("_1234x687", "_1234x688", "_1074x688", "_800x600")
"""Ends of the views of DL_Track, the size of the screen, whose pictures partly stand in locked clips of TimTrack."""


def dl_track(root: Path, left_out: tuple[str, ...] = _TIMTRACKS) -> list[Row]:
    """The stills of DL_Track, without the views of these ends."""
    return [
        Row(
            path=str(root / record["path"]),
            clip=PurePosixPath(record["path"]).stem,
            group=record["group"],
            organ="muscle",
            licence=record["licence"],
            anatomy="longitudinal",
            mask=present(root / record["label"].replace(":", "_") / f"{PurePosixPath(record['path']).stem}.png"),
        )
        for record in read_csv(root / "groups.csv", LISTED)
        if not record["view"].endswith(left_out)
    ]


CORPORA = (
    Corpus(
        name="timtrack_muscle",
        what="29 muscle sequences and 30 stills (van der Zee & Kuo 2022; Drazan 2019; Seynnes & Cronin 2020)",
        where="https://github.com/timvanderzee/ultrasound-automated-algorithm",
        licence="per file",
        layout="groups.csv (path, group, subject, order, licence), one folder of JPEG a sequence",
        patient="column subject; the two gastroc_* sequences together, each GM_* still by itself",
        pretrain=True,
        read=timtrack_muscle,
        note="the frames of a sequence are several steps apart",
    ),
    Corpus(
        name="dl_track",
        what="387 of the 489 muscle stills of DL_Track (Ritsche et al., JOSS 2023, 8(85):5206)",
        where="https://github.com/njcronin/DL_Track",
        licence="Apache-2.0",
        layout="groups.csv (path, group, label, view, licence), img/, mask_apo/, mask_fasc/",
        patient="not told: stills that are near-duplicates are one group",
        pretrain=True,
        read=dl_track,
        note="the views of 1234x*, 1074x* and 800x600 px are left out: five of them stand in locked clips of TimTrack",
    ),
)
