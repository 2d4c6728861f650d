"""Fetal ultrasound: HC18 and Fetal_Planes_DB."""

from pathlib import Path

from training.data.corpora.record import Corpus, present, read_csv, stills
from training.data.manifest import Row


def hc18(root: Path) -> list[Row]:
    """The fetal heads of HC18: images with filled masks in image/ and mask/, else the official training_set/."""
    folder = root / "image" if (root / "image").is_dir() else root / "training_set"
    return [
        Row(
            path=str(image),
            clip=image.stem,
            group=image.stem.partition("_")[0],
            organ="fetus",
            licence="CC BY 4.0",
            anatomy="head",
            mask=present(root / "mask" / f"{image.stem}_mask.png"),
        )
        for image in stills(folder)
        if not image.stem.endswith("_Annotation")
    ]


def fetal_planes_db(root: Path) -> list[Row]:
    """The standard planes of Fetal_Planes_DB; the anatomy is the plane, and of the brain which of its planes."""
    rows = []
    columns = ("Image_name", "Patient_num", "Plane", "Brain_plane")
    for record in read_csv(root / "FETAL_PLANES_DB_data.csv", columns):
        plane, brain_plane = record["Plane"], record["Brain_plane"]
        fine = f" {brain_plane}" if plane == "Fetal brain" and brain_plane != "Other" else ""
        rows.append(
            Row(
                path=str(root / "Images" / f"{record['Image_name']}.png"),
                clip=record["Image_name"],
                group=f"Patient{record['Patient_num'].zfill(5)}",
                organ={"Maternal cervix": "cervix", "Other": ""}.get(plane, "fetus"),
                label=plane,
                licence="CC BY 4.0",
                anatomy="" if plane == "Other" else plane.removeprefix("Fetal ") + fine,
            )
        )
    return rows


CORPORA = (
    Corpus(
        name="hc18",
        what="999 stills of fetal heads (van den Heuvel et al., PLoS ONE 2018, 13(8):e0200412)",
        where="https://zenodo.org/records/1327317",
        licence="CC BY 4.0",
        layout="image/010_2HC.jpg and mask/010_2HC_mask.png, or training_set/010_2HC.png",
        patient="the number that the file name begins with: one examination of one fetus",
        pretrain=True,
        read=hc18,
        note="black boxes hide the text on the images; the official test_set counts from 0 again and is not read",
    ),
    Corpus(
        name="fetal_planes_db",
        what="12,400 stills of standard planes (Burgos-Artizzu et al., Scientific Reports 2020, 10:10200)",
        where="https://zenodo.org/records/3904280",
        licence="CC BY 4.0",
        layout="FETAL_PLANES_DB_data.csv (separated by semicolons), Images/Patient00001_Plane1_1_of_15.png",
        patient="column Patient_num",
        label="the plane: Fetal abdomen, brain, femur or thorax, Maternal cervix, Other",
        pretrain=True,
        read=fetal_planes_db,
        note="its authors' own test part (column Train) is not kept out; a quarter of the patients is locked, by hash",
    ),
)
