"""Labelled folders and tables, and parts that never leak."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from usbackbones.auditing.inputs import Asked, read_inputs
from usbackbones.cli import main as cli
from usbackbones.clips import find_clips
from usbackbones.clips.files import files_below
from usbackbones.clips.read import read_clip
from usbackbones.data.content import digest_of
from usbackbones.data.dataset import read_items, split_items
from usbackbones.data.frames import Frames
from usbackbones.data.item import DataError, Item
from usbackbones.phantom.simulator import phantom_archive
from usbackbones.segmentation.dataset import read_masked
from usbackbones.segmentation.masked import Masked


def still(file: Path, level: int = 100, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, level, np.uint8)).save(file)


@pytest.fixture
def folder(tmp_path):
    """Two classes: stills of six patients with a mask each, a video, a folder of frames."""
    for label in ("benign", "malignant"):
        for patient in range(6):
            still(tmp_path / label / f"p{patient:02d}_{label}.png")
            still(tmp_path / label / f"p{patient:02d}_{label}_mask.png", 255)
            still(tmp_path / label / f"p{patient:02d}_{label}_mask_1.png", 255)
    for frame in range(3):
        still(tmp_path / "benign" / "p09_clip" / f"{frame}.png", frame)
    (tmp_path / "benign" / "notes.txt").write_text("not a clip")
    return tmp_path


def test_class_folders_without_masks(folder):
    items = read_items(folder)
    assert [item.label for item in items].count("benign") == 7
    assert not any("mask" in item.path.name for item in items)
    assert items[0].group == str(items[0].path)  # nobody said which patient it is of


def test_groups_by_a_pattern(folder):
    items = read_items(folder, "^(p[0-9]+)_")
    assert {item.group for item in items} == {*(f"p{number:02d}" for number in range(6)), "p09"}
    with pytest.raises(DataError, match="does not match"):
        read_items(folder, "^(q[0-9]+)_")
    with pytest.raises(DataError, match="2 brackets"):
        read_items(folder, "(p)([0-9])")
    with pytest.raises(DataError, match="no regular expression"):
        read_items(folder, "(")


def test_what_is_passed_over_is_counted_and_named(folder):
    """Litter is silent; every other file that is no item is named, wherever it lies."""
    for litter in ("__MACOSX/benign/._a.png", "benign/.DS_Store", "benign/Thumbs.db", "._benign"):
        (folder / litter).parent.mkdir(parents=True, exist_ok=True)
        (folder / litter).write_bytes(b"\x00\x05\x16\x07")
    (folder / "README").write_text("beside the classes")
    (folder / "malignant" / "broken.png").write_text("no image")
    notes = []
    items = read_items(folder, "", notes.append)
    assert {item.label for item in items} == {"benign", "malignant"} and len(items) == 14
    assert "passed over 2 files that are no clips in a class folder: README, benign/notes.txt" in notes
    assert sum("24 files that outline their neighbors" in note for note in notes) == 1
    read_items(folder, "^(p[0-9]+|broken)", notes.append)  # nothing but clips has to match the pattern


def test_a_file_that_links_lead_to_again_counts_once(folder):
    (folder / "benign" / "z.png").symlink_to(folder / "benign" / "p00_benign.png")
    assert [item.label for item in read_items(folder)].count("benign") == 7
    (folder / "malignant" / "z.png").symlink_to(folder / "benign" / "p00_benign.png")
    with pytest.raises(DataError, match=r"z\.png is the file of .*p00_benign\.png, with another label"):
        read_items(folder)


def test_a_file_under_two_labels_is_refused(tmp_path):
    still(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label\na.png,x\n./a.png,y\n")
    with pytest.raises(DataError, match=r"a\.png is named twice, with another label \(x, y\): keep one"):
        read_items(tmp_path / "t.csv")


def test_a_table_with_groups_and_a_split(tmp_path):
    rows = ["path,label,patient,split"]
    for number in range(12):
        still(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number // 2},{('train', 'validation', 'test')[number // 4]}")
    (tmp_path / "table.csv").write_text("\ufeff" + "\n".join(rows))
    items = split_items(read_items(tmp_path / "table.csv"))
    assert [item.part for item in items] == ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    assert items[3].group == "p1"
    rows[9] = "8.png,a,p3,test"  # patient 3 is in the validation part
    (tmp_path / "table.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"group in validation and test.*: p3"):
        split_items(read_items(tmp_path / "table.csv"))


def test_a_table_of_semicolons_or_parquet_is_the_same_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name in "ab":
        still(tmp_path / f"{name}.png")
    (tmp_path / "comma.csv").write_text("path,label,group\na.png,x,1\nb.png,y,2\n")
    (tmp_path / "semicolon.csv").write_bytes(b"\xef\xbb\xbfpath;label;group\r\na.png;x;1\r\nb.png;y;2\r\n")
    columns = {"path": ["a.png", "b.png"], "label": ["x", "y"], "group": ["1", "2"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    wanted = read_items(tmp_path / "comma.csv")
    assert [item.group for item in wanted] == ["1", "2"]
    assert read_items(tmp_path / "semicolon.csv") == wanted == read_items(tmp_path / "table.parquet")


def test_all_faults_of_a_table_are_told(tmp_path):
    still(tmp_path / "a.png")
    (tmp_path / "table.csv").write_text("path,label,split\na.png,x,train\nb.png,y,\na.png,y,tset\n")
    with pytest.raises(DataError, match=r"line 3: path 'b.png' does not exist; line 4: split 'tset'"):
        read_items(tmp_path / "table.csv")
    for content, told in (
        ("path,label\na.png,Lähmung\n".encode("latin-1"), r"table\.csv: line 2: byte 0xe4 is not UTF-8: save the file"),
        (b"PAR1\x15\x04\xff\x00", r"table\.csv is a broken Parquet file"),
        (b"PK\x03\x04", r"table\.csv is a workbook or an archive"),
        (b"path,label\na.png,x,y\n", r"line 2: 3 cells, but the header has 2: quote a cell"),
        (b'path,label\na.png,"x\n', r"line 2: cannot be read from here on"),
    ):
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_items(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(DataError, match=r"lacks the column.s. label, path"):
        read_items(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("file,class\na.png,x\n")
    with pytest.raises(DataError, match=r"lacks the column.s. label, path: .*; it has file, class$"):
        read_items(tmp_path / "table.csv")


def test_what_cannot_be_learned_from_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"0 class\(es\) \(none\).*; it needs a folder for each class"):
        read_items(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file or folder"):
        read_items(tmp_path / "nothing")
    still(tmp_path / "one" / "x" / "a.png")
    with pytest.raises(DataError, match=r"1 class.es. \(x\)"):
        read_items(tmp_path / "one")
    (tmp_path / "one" / "y").mkdir()
    with pytest.raises(DataError, match="a folder without clips"):
        read_items(tmp_path / "one")
    half = [Item(Path("a"), "x", "1", "train"), Item(Path("b"), "y", "2")]
    with pytest.raises(DataError, match="1 of 2 rows have no split"):
        split_items(half)
    with pytest.raises(DataError, match="part has no item of x, y"):
        split_items([Item(Path(str(n)), "xy"[n % 2], str(n % 2)) for n in range(8)])


def test_faults_name_the_line_that_an_editor_shows(tmp_path):
    """Blank lines, lines of nothing but delimiters, and a cell that goes over two lines."""
    still(tmp_path / "a.png")
    table = tmp_path / "t.csv"
    table.write_text('path,label,note\n\na.png,x,"two\nlines"\n,,\n\nb.png,y,\nc.png,,\n')
    with pytest.raises(DataError, match=r"line 7: path 'b\.png' does not exist"):
        read_items(table)
    still(tmp_path / "b.png", 50)
    still(tmp_path / "c.png", 70)
    notes = []
    read_items(table, "", notes.append)
    assert "passed over 1 row without a label, line 8" in notes
    table.write_text("image,mask\n\na.png,lost.png\n")
    with pytest.raises(DataError, match=r"line 3: .*lost\.png does not exist"):
        read_masked(table)
    table.write_text('path,age\n\n"",7\na.png,8\n')
    with pytest.raises(DataError, match="1 of 2 paths do not exist, the first in line 3: path ''"):
        read_inputs(table, Asked("", (), "", True, "auto", "", False), notes.append)


@given(
    groups=st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 9)), min_size=1, max_size=80),
    seed=st.integers(0, 99),
)
def test_no_split_divides_a_group(groups, seed):
    items = [Item(Path(str(n)), label, f"{label}{group}") for n, (label, group) in enumerate(groups)]
    try:
        parts = split_items(items, seed=seed)
    except DataError as error:
        assert "has no item of" in str(error)  # too few groups for three parts
        return
    of = {}
    for item in parts:
        assert of.setdefault(item.group, item.part) == item.part


def test_frames_are_a_few_of_each_item(tmp_path):
    phantom_archive(tmp_path / "clips", 2, 1, frames=9, size=64)
    items = [Item(path, "x", "g") for path in sorted((tmp_path / "clips").glob("*.mp4"))]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(items[0].path.read_bytes()[:200])
    frames = Frames([items[0], Item(broken, "x", "g"), items[1]], tmp_path / "frames.u8", 4, progress=False)
    assert frames.item.tolist() == [0] * 4 + [2] * 4
    assert np.array_equal(frames[7], read_clip(items[1].path).frames[8])  # first and last are among them, as they are
    small = Frames(items, tmp_path / "small.u8", 4, longest=32, progress=False)
    assert small[0].shape == (32, 32)
    assert len(frames.skipped) == 1 and "broken.mp4" in frames.skipped[0]
    with pytest.raises(DataError, match="none of 1 clip could be read"):
        Frames([Item(broken, "x", "g")], tmp_path / "none.u8", 4, progress=False)


def test_a_table_that_contradicts_itself_about_a_file(tmp_path):
    """By name, link or hard link; rows that say the same count once, and are counted."""
    still(tmp_path / "a.png")
    still(tmp_path / "b.png", 50)
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "a.png")
    for other, told in (
        ("link.png,y,p1,train", r"another label \(x, y\): keep one"),
        ("hard.png,x,p2,train", r"another group \(p1, p2\): a file is of one patient"),
        ("a.png,x,p1,test", r"is named twice, with another split \(train, test\): give it one split"),
    ):
        (tmp_path / "t.csv").write_text(f"path,label,patient,split\na.png,x,p1,train\nb.png,y,p3,train\n{other}\n")
        with pytest.raises(DataError, match=told):
            read_items(tmp_path / "t.csv")
    notes = []
    rows = ["link.png,x,p1", "b.png,y,p3", "hard.png,x,p1", "a.png,x,p1"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,patient", *rows]))
    assert [item.path.name for item in read_items(tmp_path / "t.csv", "", notes.append)] == ["a.png", "b.png"]
    assert "2 names of files that were named before, which count once: hard.png, link.png" in notes


def test_folders_that_are_no_classes_are_refused(tmp_path):
    for names, told in (
        (("train", "test"), "test, train named like a part of a split and not like a class: give a CSV"),
        (("benign", "malignant", "Test"), "Test named like a part"),
        (("images", "masks"), "which are no classes: give it to segment"),
    ):
        for name in names:
            still(tmp_path / names[0] / "set" / name / "a.png", len(name))
        with pytest.raises(DataError, match=told):
            read_items(tmp_path / names[0] / "set")


def test_what_runs_read_is_their_content_and_not_their_names(tmp_path):
    """A file that changes, a file more in a folder of stills, a mask that is drawn again."""
    still(tmp_path / "clip" / "a.png")
    still(tmp_path / "m.png")
    items = [
        Item(tmp_path / "clip", "x", "p"),
        Masked(tmp_path / "clip" / "a.png", "", "p", masks=(tmp_path / "m.png",)),
    ]
    seen = [[digest_of([item]) for item in items]]
    for change in (("clip/b.png", 40), ("m.png", 30), ("clip/a.png", 20)):
        still(tmp_path / change[0], change[1], size=(9, change[1]))
        seen.append([digest_of([item]) for item in items])
    assert [len(set(column)) for column in zip(*seen, strict=True)] == [3, 3]


def test_outputs_may_not_lie_where_data_are_read(folder, tmp_path):
    for command in (["finetune"], ["probe"], ["segment"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*command, str(folder), "-o", str(folder / "benign" / "out"), "--model", "random:test_resnet"])
    assert not (folder / "benign" / "out").exists()


def test_links_of_folders_are_followed_once_and_never_upwards(tmp_path):
    data = tmp_path / "data"
    still(data / "a" / "x.png")
    still(tmp_path / "far" / "y.png", 9)
    still(tmp_path / "beside.png")
    for link, target in (("b", "a"), ("a/up", ".."), ("a/top", "../.."), ("c", "../far"), ("a/again", "../../far")):
        (data / link).symlink_to(target, target_is_directory=True)
    found = [file.relative_to(data).as_posix() for file in files_below(data)]
    assert found == ["a/x.png", "c/y.png"] and find_clips(data / "a") == [data / "a", data / "a" / "again"]
