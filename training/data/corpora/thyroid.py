"""Thyroid ultrasound: DDTI and TN3K."""

from pathlib import Path
from xml.etree import ElementTree

from training.data.corpora.record import Corpus, present, read_labels, stills
from training.data.errors import CorpusError
from training.data.manifest import Row


def ddti(root: Path) -> list[Row]:
    """The stills of DDTI in its original layout: <case>.xml beside <case>_<number>.jpg."""
    grades = {file.stem: _grade(file) for file in sorted(root.glob("*.xml"))}
    rows = []
    for image in stills(root):
        case = image.stem.partition("_")[0]
        if case not in grades:
            raise CorpusError(f"{image}: there is no {case}.xml beside it, which holds its label")
        rows.append(
            Row(
                path=str(image),
                clip=image.stem,
                group=f"ddti_{case}",
                organ="thyroid",
                label=grades[case],
            )
        )
    return rows


def _grade(file: Path) -> str:
    """The TI-RADS grade of a case, as "tirads_4a"; empty where the case has none."""
    try:
        grade = (ElementTree.parse(file).findtext(".//tirads") or "").strip()
    except ElementTree.ParseError as error:
        raise CorpusError(f"{file} is broken XML ({error}): copy it again") from error
    return f"tirads_{grade}" if grade else ""


def tn3k(root: Path) -> list[Row]:
    """The stills of TN3K; labels are taken from label4trainval.csv and label4test.csv where they lie beside them."""
    rows = []
    for part in ("trainval", "test"):
        table = root / f"label4{part}.csv"
        labels = read_labels(table, {"0": "benign", "1": "malignant"}) if table.is_file() else {}
        for image in stills(root / f"{part}-image"):
            rows.append(
                Row(
                    path=str(image),
                    clip=f"{part}/{image.stem}",
                    group=f"tn3k_{part}_{image.stem}",
                    organ="thyroid",
                    label=labels.get(image.name, ""),
                    mask=present(root / f"{part}-mask" / image.name),
                )
            )
    return rows


CORPORA = (
    Corpus(
        name="ddti",
        what="thyroid stills of about 400 cases (Pedraza et al., Proc. SPIE 9287, 2015)",
        where="http://cimalab.unal.edu.co/applications/thyroid/",
        layout="1.xml, 1_1.jpg, 1_2.jpg and so on in one folder",
        patient="the case: the number that the file name begins with",
        label="the TI-RADS grade of the case, as tirads_4a",
        pretrain=False,
        read=ddti,
        note="outlines stand in the XML and are not read; later copies with masks have other names and no cases",
    ),
    Corpus(
        name="tn3k",
        what="3,493 thyroid stills of 2,421 patients (Gong et al., Computers in Biology and Medicine 2023, 155:106389)",
        where="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
        layout="trainval-image/0000.jpg, trainval-mask/0000.jpg, test-image/, test-mask/, label4trainval.csv",
        patient="not told: each still is its own group, so some patients have two",
        label="benign or malignant, where the label4*.csv are there",
        pretrain=False,
        read=tn3k,
    ),
)
