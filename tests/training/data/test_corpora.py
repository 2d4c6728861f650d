"""The known datasets, each on a small made-up folder of its layout, and those that are here on the real one."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.clip_of_row import read_path
from training.data.corpora import CORPORA
from training.data.corpus.known import main
from training.data.errors import CorpusError
from training.data.licenses import tier_of
from training.data.locked_splits import SPLITS, locked_split
from training.data.manifest import Row, examine, read_manifest, write_manifest
from training.data.prepare.decode import pick
from usbackbones.clips.read import ClipError

POCUS = "path,kind,label,label_uncertain,licence,group"
TIMTRACK = "path,group,subject,order,licence"
FETAL = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "

LISTED = "path,group,label,view,licence"


def listed(*lines):
    """The files of a folder whose groups.csv has these lines."""
    return {"groups.csv": "\n".join([LISTED, *lines]), **{line.partition(",")[0]: "" for line in lines}}


# For each dataset the files of a made-up folder ("" for a file whose content nobody reads), and for each clip that is
# to be found (path, group, organ, label, anatomy, masks).
TREES = {
    "pocus_lung": (
        {
            "groups.csv": f"{POCUS}\nv/a.mp4,video,covid,0,CC BY 4.0,1_2\nv/b.gif,video,regular,1,None,3_4\n"
            "i/c.png,image,covid,0,CC0,5_6\n",
            **dict.fromkeys(("v/a.mp4", "v/b.gif", "i/c.png"), ""),
        },
        [("v/a.mp4", "1_2", "lung", "covid", "", ()), ("v/b.gif", "3_4", "lung", "", "", ())],
    ),
    "hc18": (
        dict.fromkeys(("image/010_HC.jpg", "image/010_2HC.jpg", "image/011_HC.jpg", "mask/010_HC_mask.png"), ""),
        [
            ("image/010_2HC.jpg", "010", "fetus", "", "head", ()),
            ("image/010_HC.jpg", "010", "fetus", "", "head", ("mask/010_HC_mask.png",)),
            ("image/011_HC.jpg", "011", "fetus", "", "head", ()),
        ],
    ),
    "fetal_planes_db": (
        {
            "FETAL_PLANES_DB_data.csv": f"{FETAL}\nPatient00001_Plane1_1_of_2;1;Other;Not A Brain;Op. 1;Voluson E6;1\n"
            "Patient00012_Plane3_1_of_1;12;Fetal brain;Trans-thalamic;Op. 1;Aloka;0\n"
            "Patient00012_Plane6_1_of_1;12;Maternal cervix;Not A Brain;Op. 1;Aloka;0\n",
            "Images/Patient00001_Plane1_1_of_2.png": "",
            "Images/Patient00012_Plane3_1_of_1.png": "",
            "Images/Patient00012_Plane6_1_of_1.png": "",
        },
        [
            ("Images/Patient00001_Plane1_1_of_2.png", "Patient00001", "", "Other", "", ()),
            (
                "Images/Patient00012_Plane3_1_of_1.png",
                *("Patient00012", "fetus", "Fetal brain", "brain Trans-thalamic", ()),
            ),
            (
                "Images/Patient00012_Plane6_1_of_1.png",
                *("Patient00012", "cervix", "Maternal cervix", "Maternal cervix", ()),
            ),
        ],
    ),
    "timtrack_muscle": (
        {
            "groups.csv": f"{TIMTRACK}\nS1_L/a.jpg,S1_L,S1,1,CC0-1.0\nS1_L/b.jpg,S1_L,S1,2,CC0-1.0\n"
            "S1_R/a.jpg,S1_R,S1,1,CC0-1.0\ngastroc_jumping/a.jpg,gastroc_jumping,,1,CC0-1.0\n"
            "gastroc_range/a.jpg,gastroc_range,,1,CC0-1.0\nGM_P_1/a.jpg,GM_P_1,,1,CC BY 4.0\n",
            **dict.fromkeys(("S1_L/a.jpg", "S1_L/b.jpg", "S1_R/a.jpg", "gastroc_jumping/a.jpg"), ""),
            **dict.fromkeys(("gastroc_range/a.jpg", "GM_P_1/a.jpg"), ""),
        },
        [
            ("S1_L", "S1", "muscle", "", "", ()),
            ("S1_R", "S1", "muscle", "", "", ()),
            ("gastroc_jumping", "gastroc", "muscle", "", "gastrocnemius", ()),
            ("gastroc_range", "gastroc", "muscle", "", "gastrocnemius", ()),
            ("GM_P_1", "GM_P_1", "muscle", "", "gastrocnemius", ()),
        ],
    ),
    "busi": (
        dict.fromkeys(
            [
                *("benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"),
                *("benign/benign (10).png", "benign/benign (10)_mask.png"),
                *("malignant/malignant (1).png", "malignant/malignant (1)_mask.png", "normal/normal (1).png"),
            ],
            "",
        ),
        [
            (
                *("benign/benign (1).png", "benign (1)", "breast", "benign", ""),
                ("benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"),
            ),
            ("benign/benign (10).png", "benign (10)", "breast", "benign", "", ("benign/benign (10)_mask.png",)),
            (
                *("malignant/malignant (1).png", "malignant (1)", "breast", "malignant", ""),
                ("malignant/malignant (1)_mask.png",),
            ),
            ("normal/normal (1).png", "normal (1)", "breast", "normal", "", ()),
        ],
    ),
    "udiat_b": (
        {
            "DatasetB.csv": "Image,Type,Diagnosis\n1,Benign,FA\n000012,Malignant,IDC\n",
            **dict.fromkeys(("original/000001.png", "original/000012.png", "GT/000001.png", "GT/000012.png"), ""),
        },
        [
            ("original/000001.png", "udiat_b_000001", "breast", "benign", "", ("GT/000001.png",)),
            ("original/000012.png", "udiat_b_000012", "breast", "malignant", "", ("GT/000012.png",)),
        ],
    ),
    "bus_bra": (
        {
            "bus_data.csv": "ID,Case,Histology,Pathology,BIRADS\nbus_0001-l,1,IDC,malignant,5\n"
            "bus_0001-r,1,IDC,malignant,5\nbus_0002-l,2,FA,benign,3\n",
            **{f"Images/bus_{name}.png": "" for name in ("0001-l", "0001-r", "0002-l")},
            **{f"Masks/mask_{name}.png": "" for name in ("0001-l", "0001-r", "0002-l")},
        },
        [
            (f"Images/bus_{n}.png", f"bus_bra_{case}", "breast", label, "", (f"Masks/mask_{n}.png",))
            for n, case, label in (("0001-l", 1, "malignant"), ("0001-r", 1, "malignant"), ("0002-l", 2, "benign"))
        ],
    ),
    "ddti": (
        {
            "1.xml": "<case><number>1</number><tirads>4a</tirads><mark><image>1</image></mark></case>",
            "12.xml": "<case><number>12</number><tirads></tirads></case>",
            **dict.fromkeys(("1_1.jpg", "1_2.jpg", "12_1.jpg"), ""),
        },
        [
            ("12_1.jpg", "ddti_12", "thyroid", "", "", ()),
            ("1_1.jpg", "ddti_1", "thyroid", "tirads_4a", "", ()),
            ("1_2.jpg", "ddti_1", "thyroid", "tirads_4a", "", ()),
        ],
    ),
    "tn3k": (
        {
            "label4trainval.csv": "0000.jpg,1\n0001.jpg,0\n",
            **{f"trainval-{kind}/000{n}.jpg": "" for kind in ("image", "mask") for n in (0, 1)},
            **dict.fromkeys(("test-image/0000.jpg", "test-mask/0000.jpg"), ""),
        },
        [
            (f"{part}-image/{n}.jpg", f"tn3k_{part}_{n}", "thyroid", label, "", (f"{part}-mask/{n}.jpg",))
            for part, n, label in (
                ("trainval", "0000", "malignant"),
                ("trainval", "0001", "benign"),
                ("test", "0000", ""),
            )
        ],
    ),
    "camus": (
        {
            f"{p}/{p}_{view}_half_sequence{end}.nii.gz": ""
            for p in ("patient0001", "patient0002")
            for view in ("2CH", "4CH")
            for end in ("", "_gt")
        }
        | dict.fromkeys(("patient0001/Info_2CH.cfg", "patient0001/patient0001_2CH_ED.nii.gz"), ""),
        [
            (
                *(f"{p}/{p}_{view}_half_sequence.nii.gz", f"camus_{p}", "heart", "", anatomy),
                (f"{p}/{p}_{view}_half_sequence_gt.nii.gz",),
            )
            for p in ("patient0001", "patient0002")
            for view, anatomy in (("2CH", "apical 2-chamber"), ("4CH", "apical 4-chamber"))
        ],
    ),
    "echonet_dynamic": (
        {
            "FileList.csv": "FileName,EF,ESV,EDV,Split\n0X1A,50.1,20,40,TRAIN\n0X2B.avi,60,1,2,TEST\n",
            **dict.fromkeys(("Videos/0X1A.avi", "Videos/0X2B.avi"), ""),
        },
        [(f"Videos/{n}.avi", f"echonet_{n}", "heart", "", "apical 4-chamber", ()) for n in ("0X1A", "0X2B")],
    ),
    "gallbladder_ba": (
        {
            "training_data/label.csv": "3_0.jpg,0\n3_1.JPG,0\n",
            "test_data/label.csv": "3_0.jpg,1\n",
            **dict.fromkeys(("training_data/3_0.jpg", "training_data/3_1.JPG", "test_data/3_0.jpg"), ""),
        },
        [
            ("training_data/3_0.jpg", "training_data/3", "gallbladder", "biliary_atresia", "", ()),
            ("training_data/3_1.JPG", "training_data/3", "gallbladder", "biliary_atresia", "", ()),
            ("test_data/3_0.jpg", "test_data/3", "gallbladder", "not_biliary_atresia", "", ()),
        ],
    ),
    "us4": (
        dict.fromkeys(
            ("Cov-Heart_mp4/f0.png", "Cov-Heart_mp4/f1.png", "liver/F0_12/a.png", "Rb1_3/a.png", "Forearm/a.png"), "png"
        ),
        [
            ("Cov-Heart_mp4", "us4_Cov-Heart_mp4", "lung", "Cov", "", ()),
            ("Forearm", "us4_Forearm", "", "", "", ()),
            ("liver/F0_12", "us4_liver/F0_12", "liver", "F0", "", ()),
            ("Rb1_3", "us4_Rb1_3", "liver", "Rb1", "", ()),
        ],
    ),
    "bus_uclm": (
        listed("img/A_0.jpg,A,benign,breast_marks,CC BY 4.0", "img/A_1.jpg,A,normal,breast,CC BY 4.0")
        | {"mask/A_0.png": ""},
        [
            ("img/A_0.jpg", "A", "breast", "", "", ("mask/A_0.png",)),
            ("img/A_1.jpg", "A", "breast", "normal", "", ()),
        ],
    ),
    "dl_track": (
        listed(
            "img/apo_1.jpg,c1,mask:apo,muscle_800x652,Apache-2.0",
            "img/apo_2.jpg,c2,mask:apo,muscle_800x600,Apache-2.0",
            "img/fasc_3.jpg,c3,mask:fasc,muscle_1234x688,Apache-2.0",
            "img/fasc_4.jpg,c3,mask:fasc,muscle_660x556,Apache-2.0",
        )
        | {"mask_apo/apo_1.png": ""},
        [
            ("img/apo_1.jpg", "c1", "muscle", "", "longitudinal", ("mask_apo/apo_1.png",)),
            ("img/fasc_4.jpg", "c3", "muscle", "", "longitudinal", ()),
        ],
    ),
    "open_clips": (
        listed("v/a.mp4,a,,echo,MIT", "v/b.mp4,b,,eye_phantom,MIT", "v/c.mp4,c,,gastrocnemius_longitudinal,CC BY 4.0"),
        [("v/a.mp4", "a", "heart", "", "", ())],
    ),
    "open_stills": (
        listed("img/a.jpg,a,,carotid_or_doppler,MIT", "img/b.jpg,b,,bone_linear,BSD-3-Clause"),
        [("img/a.jpg", "a", "carotid", "", "", ())],
    ),
    "aul_liver": (listed("img/1.jpg,1,mask,liver,CC BY 4.0"), [("img/1.jpg", "1", "liver", "", "", ())]),
    "momot_carotid": (listed("img/1.jpg,1,,t,CC BY 4.0"), [("img/1.jpg", "1", "carotid", "", "", ())]),
    "breast_lesions_usg": (listed("img/1.jpg,1,,breast,CC BY 4.0"), [("img/1.jpg", "1", "breast", "", "", ())]),
    "nhbs_hip": (listed("img/1.jpg,1,standard,h,Apache-2.0"), [("img/1.jpg", "1", "hip", "", "infant hip", ())]),
    "tte47": (listed("img/1.jpg,1,a2ch,echo,CC BY-NC-SA 4.0"), [("img/1.jpg", "1", "heart", "", "", ())]),
    "ultrasuite_tongue": (
        listed("video/a.mp4,1,,midsagittal,CC BY-NC 4.0"),
        [("video/a.mp4", "1", "tongue", "", "midsagittal", ())],
    ),
}
PNG = bytes.fromhex("89504e470d0a1a0a")


def plant(folder: Path, name: str) -> Path:
    for path, content in TREES[name][0].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(PNG if content == "png" else content.encode())
    return folder


def test_every_dataset_is_tested():
    assert TREES.keys() == CORPORA.keys()


@pytest.mark.parametrize("name", TREES)
def test_a_layout_is_read(tmp_path, name):
    rows = CORPORA[name].rows(plant(tmp_path, name))
    root = tmp_path.resolve()

    def below(path):
        return Path(path).relative_to(root).as_posix()

    got = [(below(r.path), r.group, r.organ, r.label, r.anatomy, tuple(map(below, r.masks))) for r in rows]
    assert got == TREES[name][1]
    assert {row.source for row in rows} == {name} and all(row.clip.startswith(f"{name}/") for row in rows)
    if CORPORA[name].licence != "per file":
        assert {row.licence for row in rows} == {CORPORA[name].licence}
    write_manifest(rows, tmp_path / "manifest.csv")
    assert not [fault for fault in examine(tmp_path / "manifest.csv")[1] if fault.serious]


@pytest.mark.parametrize("name", TREES)
def test_another_layout_is_refused_by_name(tmp_path, name):
    with pytest.raises(CorpusError, match=rf"is not there: give {name}=FOLDER, or get it from http"):
        CORPORA[name].rows(tmp_path / "absent")
    (tmp_path / "other.txt").touch()
    with pytest.raises(ValueError, match=str(tmp_path)):
        CORPORA[name].rows(tmp_path)


def test_what_may_be_pretrained_on_has_a_licence_for_it():
    for corpus in CORPORA.values():
        if corpus.pretrain and corpus.licence != "per file":
            assert tier_of(corpus.licence), corpus.name
    assert not CORPORA["busi"].pretrain and not CORPORA["gallbladder_ba"].pretrain


@pytest.mark.parametrize(
    ("name", "file", "content", "complaint"),
    [
        ("bus_bra", "bus_data.csv", "ID,Pathology\nbus_1,benign\n", "no column Case; it has ID, Pathology"),
        ("bus_bra", "bus_data.csv", "ID,Case,Pathology\nbus_1,1\n", "line 2: 2 cells"),
        ("bus_bra", "bus_data.csv", "", "empty"),
        ("echonet_dynamic", "FileList.csv", b"FileName\n\xff\n", "not UTF-8"),
        ("gallbladder_ba", "test_data/label.csv", "3_0.jpg,2\n", "line 1: '3_0.jpg,2' is not a name and one of 0, 1"),
        ("ddti", "1.xml", "<case>", "broken XML"),
        ("ddti", "7_1.jpg", "", r"no 7\.xml"),
        (
            "timtrack_muscle",
            "groups.csv",
            f"{TIMTRACK}\nA/a.jpg,A,S1,1,CC0\nA/b.jpg,A,S2,2,CC0\n",
            "frames of A differ",
        ),
    ],
)
def test_a_damaged_table_is_named(tmp_path, name, file, content, complaint):
    plant(tmp_path, name)
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=complaint) as error:
        CORPORA[name].rows(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_hc18_is_read_in_its_official_layout_too(tmp_path):
    (tmp_path / "training_set").mkdir()
    for name in ("000_HC.png", "000_HC_Annotation.png", "001_2HC.png"):
        (tmp_path / "training_set" / name).touch()
    assert [(row.clip, row.group, row.mask) for row in CORPORA["hc18"].rows(tmp_path)] == [
        ("hc18/000_HC", "000", ""),
        ("hc18/001_2HC", "001", ""),
    ]


def test_camus_is_read_as_stills_too(tmp_path):
    """End diastole before end systole, whatever their order in the table; the group is that of the published layout."""
    for path, content in listed(
        "img/patient0006_2CH_ES.jpg,patient0006,ES,apical_2CH,CC BY-NC-SA 4.0",
        "img/patient0006_2CH_ED.jpg,patient0006,ED,apical_2CH,CC BY-NC-SA 4.0",
        "img/patient0006_4CH_ED.jpg,patient0006,ED,apical_4CH,CC BY-NC-SA 4.0",
    ).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    for gray, phase in ((10, "ED"), (200, "ES")):
        Image.fromarray(np.full((8, 8), gray, np.uint8)).save(tmp_path / f"img/patient0006_2CH_{phase}.jpg")
    two, four = CORPORA["camus"].rows(tmp_path)
    assert (two.clip, two.group, two.anatomy) == ("camus/patient0006_2CH", "camus_patient0006", "apical 2-chamber")
    assert [Path(path).name for path in four.paths] == ["patient0006_4CH_ED.jpg"] and not two.mask
    write_manifest([two], tmp_path / "two.csv")
    assert read_manifest(tmp_path / "two.csv") == [two]
    assert read_path(two.path).frames.mean(axis=(1, 2)).tolist() == [10, 200]
    assert len(pick(two.path, 2).frames) == 2
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "img/patient0006_2CH_ES.jpg")
    with pytest.raises(ClipError, match="one size, and not 8x8, 9x8"):
        read_path(two.path)
    (tmp_path / "img/patient0006_2CH_ES.jpg").unlink()
    with pytest.raises(CorpusError, match=r"2CH_ES\.jpg' is not there"):
        read_manifest(tmp_path / "two.csv")


@pytest.mark.parametrize(("tier", "clips", "groups"), [("open", 1792, 1123), ("nc", 2654, 1603)])
def test_corpus_3_has_the_rows_that_runs_were_begun_from(shared_data, tmp_path, capsys, tier, clips, groups):
    file = shared_data.parent / "runs" / f"{tier}3.csv"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with file.open(newline="") as stream:
        wanted = list(csv.DictReader(stream))
    names = list(dict.fromkeys(record["source"] for record in wanted))
    main([*names, "--root", str(shared_data), "--tier", tier, "-o", str(tmp_path / "x.csv")])
    with (tmp_path / "x.csv").open(newline="") as stream:
        made = list(csv.DictReader(stream))
    assert f"{clips} clips of {groups} groups" in capsys.readouterr().out
    columns = wanted[0].keys() - {"path", "mask"}
    assert [[row[name] for name in columns] for row in made] == [[row[name] for name in columns] for row in wanted]


def test_row_joins_masks():
    assert Row("p", "c", "g", mask="a|b").masks == ("a", "b") and Row("p", "c", "g").masks == ()


@pytest.mark.parametrize(
    ("name", "clips", "groups", "masks", "labels"),
    [
        ("pocus_lung", 131, None, 0, None),
        ("hc18", 999, 806, 999, {"": 999}),
        ("timtrack_muscle", 59, 41, 0, {"": 59}),
        ("busi", 780, 780, 798, {"benign": 437, "malignant": 210, "normal": 133}),
        ("gallbladder_ba", 4546, 1439, 0, None),
        ("bus_uclm", 636, 37, 636, None),
        ("camus", 988, 494, 0, {"": 988}),
        ("dl_track", 387, 325, 387, {"": 387}),
    ],
)
def test_the_real_folders_hold_what_their_readme_says(shared_data, name, clips, groups, masks, labels):
    rows = CORPORA[name].rows(shared_data / name)
    assert len(rows) == len({row.clip for row in rows}) == clips
    assert groups is None or len({row.group for row in rows}) == groups
    assert sum(len(row.masks) for row in rows) == masks
    assert labels is None or Counter(row.label for row in rows) == labels
    assert all(Path(file).exists() for row in rows for file in (*row.paths, *row.masks))
    if (SPLITS / f"{name}.json").is_file():
        split = locked_split(name)
        assert {row.group for row in rows} <= {*split["pretrain"], *split["test"]}
