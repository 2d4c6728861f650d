"""Echocardiography: CAMUS and EchoNet-Dynamic."""

from pathlib import Path

from training.data.corpora.record import Corpus, present, read_csv
from training.data.manifest import Row


def camus(root: Path) -> list[Row]:
    """The half cycles of CAMUS, two views a patient, with a mask for every frame: 1 cavity, 2 myocardium, 3 atrium."""
    return [
        Row(
            path=str(sequence),
            clip=f"{folder.name}_{view}",
            group=f"camus_{folder.name}",
            organ="heart",
            licence="CC BY-NC-SA 4.0",
            source="camus",
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
                source="echonet_dynamic",
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
        layout="the folder database_nifti: patient0001/patient0001_2CH_half_sequence.nii.gz and ..._gt.nii.gz",
        patient="the folder",
        label="",
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
        label="",
        pretrain=False,
        read=echonet_dynamic,
        note="given under an agreement, for research; ejection fractions stand in FileList.csv",
    ),
)
