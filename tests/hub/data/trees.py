"""Trees of labelled files and of images with masks, drawn by hypothesis: who is a patient, litter, links, masks."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.hub.clips.dicom.dicom_files import write_dicom

LITTER = (".DS_Store", "._x.png", "Thumbs.db", "desktop.ini", "__MACOSX/._y.png", ".cache/z.png")
COLUMNS = ("group", "patient", "patient_id", "PatientID", "subject", "subject_id")
SOURCES = ("names", "header", "nobody", *COLUMNS)
PATTERN = "(p[0-9]+)"


@dataclass
class Tree:
    """What was written, as whoever wrote it knows it.

    Attributes:
        data: what a command is given.
        group_from: its option.
        used: {real file: (label, patient)} of all that is an item.
        named: real files that must be counted as passed over.
        masks: {image: bool [H, W]}, of sets with masks.
        answers: options about masks.
    """

    data: Path
    group_from: str = ""
    used: dict[Path, tuple[str, str]] = field(default_factory=dict)
    named: set[Path] = field(default_factory=set)
    masks: dict[Path, np.ndarray] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)


@contextmanager
def listed_in_another_order(seed: int) -> Iterator[None]:
    """Every folder lists its entries in another order, as file systems may."""
    listing, rng = Path.iterdir, np.random.default_rng(seed)

    def shuffled(folder: Path) -> Iterator[Path]:
        found = sorted(listing(folder))
        return iter([found[place] for place in rng.permutation(len(found))])

    with mock.patch.object(Path, "iterdir", shuffled):
        yield


def noise(seed: int, shape: tuple[int, int] = (24, 28)) -> np.ndarray:
    """An image that is nobody else's, uint8 [H, W]."""
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def write_image(file: Path, pixels: np.ndarray, patient: str = "") -> Path:
    """Pixels [H, W] in the format of the file's ending; a DICOM file names its patient."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".dcm":
        write_dicom(file, pixels[None], PatientID=patient)
    else:
        Image.fromarray(pixels).save(file, **({"lossless": True} if file.suffix == ".webp" else {}))
    return file


def litter(draw: st.DrawFn, folder: Path) -> None:
    for name in draw(st.lists(st.sampled_from(LITTER), unique=True, max_size=3)):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\x00\x05\x16\x07")


@st.composite
def labelled_trees(draw: st.DrawFn, root: Path) -> Tree:
    """Class folders, or a table of their files: patients of one to three files, some in two classes."""
    source = draw(st.sampled_from(SOURCES))
    tree = Tree(root / "data", PATTERN if source == "names" else "")
    (tree.data).mkdir(parents=True)
    labels = draw(st.permutations(["benign", "malignant", "normal"]))[: draw(st.integers(2, 3))]
    ending = ".dcm" if source == "header" else draw(st.sampled_from([".png", ".webp", ".tif", ".jfif", ".bmp"]))
    number = 0
    for patient in range(draw(st.integers(6, 9)) * len(labels)):
        for more in range(draw(st.integers(1, 2))):
            label = labels[(patient + (more and draw(st.integers(0, 1)))) % len(labels)]
            file = tree.data / label / f"p{patient}_{number}{ending}"
            write_image(file, noise(number), f"P{patient}")
            tree.used[file] = (label, str(file) if source == "nobody" else f"p{patient}")
            number += 1
    _extras(draw, tree, labels)
    return tree if source in ("names", "header", "nobody") else _as_table(draw, tree, source)


def _extras(draw: st.DrawFn, tree: Tree, labels: list[str]) -> None:
    """Litter, links, and files that are no clips of a class."""
    for place in ("", *labels):
        litter(draw, tree.data / place)
    for name in draw(st.lists(st.sampled_from(["README", f"{labels[0]}/notes.txt", "beside.png"]), unique=True)):
        tree.named.add(write_image(tree.data / name, noise(999)) if name.endswith("png") else tree.data / name)
        if not name.endswith("png"):
            (tree.data / name).write_text("no clip")
    first = min(tree.used)
    for kind in draw(st.lists(st.sampled_from(["again", "hard", "up", "above", "out"]), unique=True)):
        place = tree.data / tree.used[first][0]
        if kind == "again":
            (place / f"p0_again{first.suffix}").symlink_to(first)
        elif kind == "hard":
            os.link(first, place / f"{first.stem}_z{first.suffix}")
        elif kind == "up":
            (place / "loop").symlink_to(place, target_is_directory=True)
        elif kind == "above":
            (place / "top").symlink_to("../..", target_is_directory=True)
        elif tree.group_from or first.suffix != ".dcm":
            outside = write_image(tree.data.parent / "elsewhere" / "p77_out.png", noise(777))
            (place / "p77_link.png").symlink_to(outside)
            tree.used[outside] = (place.name, "p77" if tree.group_from else str(place / "p77_link.png"))


def _as_table(draw: st.DrawFn, tree: Tree, column: str) -> Tree:
    rows = [[str(file), label, patient] for file, (label, patient) in tree.used.items()]
    rows = [row if "elsewhere" not in row[0] else [row[0], row[1], "p77"] for row in rows]
    tree.used = {Path(path): (label, patient) for path, label, patient in rows}
    tree.data, tree.named = tree.data.parent / "table.csv", set()
    again = draw(st.integers(0, 2))
    rows += rows[:again]
    with tree.data.open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label", column], *draw(st.permutations(rows))])
    return tree


def shuffle_rows(table: Path, seed: int) -> None:
    """The rows of a table in another order."""
    head, *rows = table.read_text().splitlines()
    order = np.random.default_rng(seed).permutation(len(rows))
    table.write_text("\n".join([head, *(rows[place] for place in order)]))


KINDS = ("black and white", "0 and 1", "gray edges", "labels", "palette", "colors", "alpha")
MASKS = ("{}", "{}_mask", "{}_seg", "{}-gt", "{}_label")


def shape_of_mask(number: int, shape: tuple[int, int]) -> np.ndarray:
    """A mask bool [H, W]; every fifth is empty, every seventh all foreground."""
    rows, columns = np.indices(shape)
    if number % 5 == 4 or number % 7 == 6:
        return np.full(shape, number % 7 == 6)
    return (rows - 9 - number % 5) ** 2 + (columns - 10 - number % 7) ** 2 < 30


def write_mask(file: Path, mask: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """A mask bool [H, W] in one of the ways in which they are stored; what is to be read of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    bits, zeros = mask.astype(np.uint8), np.zeros(mask.shape, np.uint8)
    two = (
        bits * np.uint8([1, 2])[(np.indices(mask.shape)[1] > 10 + seed % 3).astype(int)]
    )  # left of a line 1, right of it 2
    image = Image.fromarray(bits * (1 if kind == "0 and 1" else 255))
    if kind == "gray edges":
        image = image.resize((mask.shape[1] * 3, mask.shape[0] * 3), Image.Resampling.NEAREST)
        image = image.resize(mask.shape[::-1], Image.Resampling.BICUBIC).rotate(3, Image.Resampling.BILINEAR)
        mask = np.asarray(image) > 127
    elif kind == "labels":
        image = Image.fromarray(two)
    elif kind == "palette":
        image = Image.fromarray(two)
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    elif kind == "colors":
        image = Image.fromarray(np.dstack([255 * (two == 1), 255 * (two == 2), zeros]).astype(np.uint8))
    elif kind == "alpha":
        image = Image.fromarray(np.dstack([zeros, zeros, zeros, bits * 255]))
    image.save(file)
    return mask


ANSWERS = {"labels": "1,2", "palette": "1,2", "colors": "#ff0000,#00ff00"}


@st.composite
def masked_trees(draw: st.DrawFn, root: Path) -> Tree:
    """images/ and masks/, images beside their masks in folders, or a table; masks of one kind."""
    source, kind = draw(st.sampled_from(SOURCES)), draw(st.sampled_from(KINDS))
    layout = "table" if source in COLUMNS else draw(st.sampled_from(["folders", "neighbors", "table"]))
    tree = Tree(root / "data", PATTERN if source == "names" else "")
    tree.answers = {"foreground": ANSWERS.get(kind, "")}
    named = draw(st.sampled_from(MASKS if layout == "folders" else MASKS[1:]))
    numbered = source != "names" and draw(st.booleans())  # image_1 and mask_1
    ending = draw(st.sampled_from([".png", ".tif"])) if source != "header" else ".dcm"
    resized, rows = draw(st.booleans()), []
    for number in range(draw(st.integers(7, 9))):
        patient, shape = f"p{number // 2}", (24 + number % 2, 28)
        stem = f"image_{number}" if numbered else f"{patient}_{number}"
        place = {"folders": "images", "neighbors": f"part{number % 2}", "table": "t"}[layout]
        file = write_image(tree.data / place / f"{stem}{ending}", noise(number, shape), f"P{patient}")
        place = tree.data / ("masks" if layout == "folders" else place)
        mask_file = place / ((f"mask_{number}" if numbered else named.format(stem)) + ".png")
        own = (shape[0] * 2, shape[1] * 2) if resized and number == 3 else shape
        tree.masks[file] = write_mask(mask_file, shape_of_mask(number, own), kind, number)
        tree.used[file] = ("", str(file) if source == "nobody" else patient)
        rows.append([str(file), str(mask_file), patient])
    if resized:
        tree.answers["resize_masks"] = "nearest"
    litter(draw, tree.data)
    litter(draw, file.parent)
    if layout == "table":
        (tree.data / "t.csv").write_text("")
        tree.data /= "t.csv"
        head = ["image", "mask", *([source] if source in COLUMNS else [])]
        with tree.data.open("w", newline="") as stream:
            csv.writer(stream).writerows(row[: len(head)] for row in [head, *draw(st.permutations(rows))])
        return tree
    if layout == "folders" and draw(st.booleans()):
        tree.named |= {write_image(tree.data / "test" / f"{n}.png", noise(50 + n)) for n in range(3)}
    if draw(st.booleans()):
        (tree.data / "notes.txt").write_text("no image")
        tree.named.add(tree.data / "notes.txt")
    if draw(st.booleans()):
        (file.parent / "loop").symlink_to(tree.data, target_is_directory=True)
    if draw(st.booleans()):  # all of it behind a link
        (root / "link").symlink_to(tree.data, target_is_directory=True)
        tree.data = root / "link"
    return tree
