"""Breast ultrasound: BUSI, UDIAT's dataset B, BUS-BRA, BUS-UCLM and BrEaST-Lesions-USG."""

from pathlib import Path

from training.data.corpora.record import Corpus, listed, present, read_csv, stills_with_masks
from training.data.errors import CorpusError
from training.data.manifest import Row


def busi(root: Path) -> list[Row]:
    """The stills of BUSI, labelled by folder; several masks of one image mean their union."""
    return [
        Row(
            path=str(image),
            clip=image.stem,
            group=image.stem,
            organ="breast",
            label=label,
            mask=mask,
        )
        for label in ("benign", "malignant", "normal")
        for image, mask in stills_with_masks(root / label)
    ]


def udiat_b(root: Path) -> list[Row]:
    """The stills of dataset B. Its labels stand in a workbook, which is to be saved as DatasetB.csv."""
    table = root / "DatasetB.csv"
    if not table.is_file():
        raise CorpusError(f"{table} is missing: save DatasetB.xlsx, which holds the labels, as a CSV of that name")
    rows = []
    for record in read_csv(table, ("Image", "Type")):
        name = record["Image"].removesuffix(".png").zfill(6)  # a spreadsheet shows 000012 as 12
        rows.append(
            Row(
                path=str(root / "original" / f"{name}.png"),
                clip=name,
                group=f"udiat_b_{name}",
                organ="breast",
                label=record["Type"].lower(),
                mask=present(root / "GT" / f"{name}.png"),
            )
        )
    return rows


def bus_bra(root: Path) -> list[Row]:
    """The stills of BUS-BRA, several of some patients."""
    return [
        Row(
            path=str(root / "Images" / f"{record['ID']}.png"),
            clip=record["ID"],
            group=f"bus_bra_{record['Case']}",
            organ="breast",
            label=record["Pathology"].lower(),
            licence="CC BY 4.0",
            mask=present(root / "Masks" / f"{record['ID'].replace('bus_', 'mask_', 1)}.png"),
        )
        for record in read_csv(root / "bus_data.csv", ("ID", "Case", "Pathology"))
    ]


_LISTED = "groups.csv (path, group, label, view, licence), img/, mask/"

CORPORA = (
    Corpus(
        name="busi",
        what="780 breast stills (Al-Dhabyani et al., Data in Brief 2020, 28:104863)",
        where="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
        layout="benign/, malignant/ and normal/ with 'benign (1).png' and 'benign (1)_mask.png'",
        patient="not known: each still is its own group, and near-duplicates must be joined before any split",
        label="benign, malignant or normal",
        pretrain=False,
        read=busi,
        note="about 150 pairs of near-duplicates, some of them across classes; calipers, text and color on the images",
    ),
    Corpus(
        name="udiat_b",
        what="163 breast stills (Yap et al., IEEE J. Biomed. Health Inform. 2018, 22(4):1218)",
        where="https://helward.mmu.ac.uk/STAFF/M.Yap/dataset.php",
        layout="original/000001.png, GT/000001.png, and DatasetB.xlsx saved as DatasetB.csv (Image, Type)",
        patient="not stated: each still is its own group",
        label="benign or malignant",
        pretrain=False,
        read=udiat_b,
        note="given on request, for research",
    ),
    Corpus(
        name="bus_bra",
        what="1,875 breast stills (Gómez-Flores et al., Medical Physics 2024, 51(4):3110)",
        where="https://zenodo.org/records/8231412",
        licence="CC BY 4.0",
        layout="bus_data.csv (ID, Case, Pathology), Images/bus_0001-l.png, Masks/mask_0001-l.png",
        patient="column Case: 1,064 patients",
        label="benign or malignant, proven by biopsy",
        pretrain=True,
        read=bus_bra,
        note="its authors' folds (5-fold-cv.csv) are not kept out; a quarter of the patients is locked, by hash",
    ),
    Corpus(
        name="bus_uclm",
        what="636 breast stills of 37 patients, Siemens Acuson S2000 (Vallez et al., Scientific Data 2025)",
        where="https://data.mendeley.com/datasets/7fvgj4jsp7 (here by Knightrider16/Mask_R-CNN_BUS-UCLM)",
        licence="CC BY 4.0",
        layout=_LISTED,
        patient="the four letters that the file name begins with; CHCO was a copy of CHVI and is merged with it",
        label="benign, malignant or normal; none for the 118 stills of the view breast_marks, which carry calipers",
        pretrain=True,
        read=listed("breast", label=["breast"]),
        note="a quarter of the patients is locked, by a hash of their codes",
    ),
    Corpus(
        name="breast_lesions_usg",
        what="15 breast stills of BrEaST-Lesions-USG (Pawłowska et al., Scientific Data 2024, 11:148)",
        where="https://www.cancerimagingarchive.net/collection/breast-lesions-usg",
        licence="CC BY 4.0",
        layout=_LISTED,
        patient="the still: there is one of each",
        pretrain=True,
        read=listed("breast"),
    ),
)
