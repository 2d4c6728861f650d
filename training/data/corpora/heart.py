"""Echocardiography: CAMUS, EchoNet-Dynamic and the gallery of 47 views."""

from pathlib import Path

from training.data.corpora.record import LISTED, Corpus, listed, present, read_csv
from training.data.manifest import Row


def camus(root: Path) -> list[Row]:
    """The views of CAMUS as published, or as stills at end diastole and end systole where there is a groups.csv."""
    return _camus_stills(root) if (root / "groups.csv").is_file() else _camus_sequences(root)


def _camus_stills(root: Path) -> list[Row]:
    """One clip of two frames a view: end diastole, then end systole. The masks are one a frame and are left out."""
    frames: dict[tuple[str, str], list[dict[str, str]]] = {}
    for record in read_csv(root / "groups.csv", LISTED):
        frames.setdefault((record["group"], record["view"].removeprefix("apical_")), []).append(record)
    return [
        Row(
            path="|".join(str(root / record["path"]) for record in sorted(records, key=lambda record: record["label"])),
            clip=f"{patient}_{view}",
            group=f"camus_{patient}",
            organ="heart",
            licence=records[0]["licence"],
            anatomy=f"apical {view[0]}-chamber",
        )
        for (patient, view), records in frames.items()
    ]


def _camus_sequences(root: Path) -> list[Row]:
    """The half cycles of CAMUS, two views a patient, with a mask for every frame: 1 cavity, 2 myocardium, 3 atrium."""
    return [
        Row(
            path=str(sequence),
            clip=f"{folder.name}_{view}",
            group=f"camus_{folder.name}",
            organ="heart",
            licence="CC BY-NC-SA 4.0",
            anatomy=f"apical {view[0]}-chamber",
            mask=present(folder / f"{folder.name}_{view}_half_sequence_gt.nii.gz"),
        )
        for folder in sorted(root.glob("patient*"))
        for view in ("2CH", "4CH")
        if (sequence := folder / f"{folder.name}_{view}_half_sequence.nii.gz").is_file()
    ]


def echonet_dynamic(root: Path) -> list[Row]:
    """The videos of EchoNet-Dynamic, one a patient."""
    rows = []
    for record in read_csv(root / "FileList.csv", ("FileName",)):
        name = record["FileName"].removesuffix(".avi")
        rows.append(
            Row(
                path=str(root / "Videos" / f"{name}.avi"),
                clip=name,
                group=f"echonet_{name}",
                organ="heart",
                licence="Stanford University Dataset Research Use Agreement",
                anatomy="apical 4-chamber",
            )
        )
    return rows


CORPORA = (
    Corpus(
        name="camus",
        what="1,000 half cycles of 500 hearts (Leclerc et al., IEEE Trans. Med. Imaging 2019, 38(9):2198)",
        where="https://www.creatis.insa-lyon.fr/Challenge/camus/",
        licence="CC BY-NC-SA 4.0",
        layout="the folder database_nifti: patient0001/patient0001_2CH_half_sequence.nii.gz and ..._gt.nii.gz; or "
        "groups.csv (path, group, label, view, licence) and img/patient0006_2CH_ED.jpg, ..._ES.jpg",
        patient="the folder",
        pretrain=True,
        read=camus,
        note="a quarter of the patients is locked, by a hash of their ids",
    ),
    Corpus(
        name="echonet_dynamic",
        what="10,030 videos of hearts (Ouyang et al., Nature 2020, 580:252)",
        where="https://echonet.github.io/dynamic/",
        licence="Stanford University Dataset Research Use Agreement",
        layout="FileList.csv (FileName), Videos/0X1A2B3C.avi",
        patient="the video: there is one of each",
        pretrain=False,
        read=echonet_dynamic,
        note="given under an agreement, for research; ejection fractions stand in FileList.csv",
    ),
    Corpus(
        name="tte47",
        what="one still of each of 47 views of the heart",
        where="https://thrive-centre.github.io",
        licence="CC BY-NC-SA 4.0",
        layout="groups.csv (path, group, label, view, licence), img/",
        patient="not told: each still is its own group",
        pretrain=True,
        read=listed("heart"),
    ),
)
