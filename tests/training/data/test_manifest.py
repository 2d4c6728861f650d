"""Manifests: reading, writing, and the checks that find every fault at once."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.errors import CorpusError
from training.data.manifest import COLUMNS, Row, examine, read_manifest, write_manifest

HEADER = ",".join(COLUMNS)


def write(folder, content):
    file = folder / "manifest.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def found(file, serious=True, files=False):
    """(line, column, message) of the faults of a manifest."""
    return [(f.line, f.column, f.message) for f in examine(file, files)[1] if f.serious == serious]


def rows_of(folder, count=6):
    """Sound rows of three groups, their files on the disk."""
    rows = []
    for number in range(count):
        name = f"clip {number}, ü.mp4"
        (folder / name).touch()
        rows.append(Row(name, f"c{number}", f"P{number // 2}", "lung", "a", "CC0", "mine", "apex", f"{name}|{name}"))
    return rows


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.parquet"])
def test_a_manifest_survives_the_round_trip(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    rows = rows_of(tmp_path)
    write_manifest(rows, tmp_path / name, notes=["seen"] * len(rows))
    read = read_manifest(tmp_path / name)
    assert examine(tmp_path / name)[1] == []
    for row, back in zip(rows, read, strict=True):
        path = str(tmp_path / row.path)
        assert (back.path, back.masks) == (path, (path, path))
        assert Row(row.path, *list(vars(back).values())[1:-1], mask=row.mask) == row
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, *{row.path for row in rows}])


def test_patient_and_view_are_other_names_of_group_and_anatomy(tmp_path):
    file = write(tmp_path, "Path,clip, Patient ,view,note\na.mp4,a,P1,apex,see Anna\n")
    assert read_manifest(file, files=False) == [Row(str(tmp_path / "a.mp4"), "a", "P1", anatomy="apex")]
    assert not found(file)
    file = write(tmp_path, "path,clip,patient,group\na.mp4,a,P1,P1\n")
    assert [(line, column) for line, column, _ in found(file)] == [(1, "group")]


def test_files_are_looked_for_only_where_they_are_wanted(tmp_path):
    (tmp_path / "here.mp4").touch()
    file = write(tmp_path, "path,clip,group,mask\nhere.mp4,a,g,here.mp4|gone.png\ngone.mp4,b,g,\n")
    assert [(line, column) for line, column, _ in found(file, files=True)] == [(2, "mask"), (3, "path")]
    assert len(read_manifest(file, files=False)) == 2
    with pytest.raises(CorpusError, match=rf"line 3, column path: 'gone.mp4' is not there; .* {tmp_path}"):
        read_manifest(file)


@pytest.mark.parametrize(
    ("content", "line", "column", "complaint"),
    [
        ("", None, "", "empty"),
        (HEADER + "\n", None, "", "no rows"),
        ("path,clip\na,b\n", 1, "", "no column group or patient"),
        ("path,clip,group,group\na,b,c,c\n", 1, "group", "twice"),
        ("path,clip,group\na,b,c,d\n", 2, "", "4 cells, but the header has 3"),
        ("path,clip,group\na,b\n", 2, "", "2 cells"),
        ("path,clip,group\n,b,c\n", 2, "path", "empty"),
        ("path,clip,group\na, ,c\n", 2, "clip", "empty"),
        ("path,clip,group\na,b,\n", 2, "group", "empty"),
        ("path,clip,group\na,1,c\nb,1,c\n", 3, "clip", "'1' stands there twice .first in line 2"),
        ("path,clip,group\na,1,c\n./a,2,c\n", 3, "path", "twice"),
        ("path,clip,group\na,1,c\na,2,d\n", 3, "path", "belongs to 'c' in line 2 and to 'd' here"),
        ("path,clip,group\na,1,P1\nb,2,p1 \n", 3, "group", "'p1 ' differs from 'P1' .line 2"),
        ("path,clip,group,label\na,1,g,x y\nb,2,g,X\u200b  Y\n", 3, "label", "case or spaces"),
        ("path,clip,group\na\0,1,g\n", 2, "path", "control characters"),
        ("path,clip,group\n\na,1,g\n\n,,\nb,1,g\n", 6, "clip", "twice"),
        ('path,clip,group\n"a\nb",1,g\nb,1,g\n', 4, "clip", "twice"),
        ('path,clip,group\na,1,g\n"b,2,g\n', 3, "", "quotation mark"),
        ("path,clip,group\na,1,J\xf6rg\n".encode("latin-1"), 2, "", "0xf6 is not UTF-8"),
        ("path,clip,group\na,1,g\n".encode("utf-16"), None, "", "UTF-16"),
    ],
)
def test_a_fault_is_named_with_its_line_and_column(tmp_path, content, line, column, complaint):
    file = write(tmp_path, content)
    hits = [(at, where) for at, where, message in found(file) if re.search(complaint, message)]
    assert hits == [(line, column)]
    with pytest.raises(CorpusError, match=complaint):
        read_manifest(file, files=False)


@pytest.mark.parametrize(
    ("content", "line", "column", "remark"),
    [
        ("\ufeffpath,clip,group,licence\na,1,g,CC0\n", 1, "", "byte order mark"),
        ("path;clip;group;licence\na;1;g;CC0\n", 1, "", "separated by ';'"),
        ("path\tclip\tgroup\tlicence\na\t1\tg\tCC0\n", 1, "", "separated by"),
        ("path,clip,group,licens,licence\na,1,g,x,CC0\n", 1, "licens", "did you mean 'licence'"),
        ("path,clip,group,age,licence\na,1,g,40,CC0\n", 1, "age", "nothing reads"),
        (
            "path,clip,group,licence\na,1,g,CC0\nb,2,g,mine\nc,3,g,mine\n",
            3,
            "licence",
            "'mine' in 2 row.*write one of: CC0, ",
        ),
        ("path,clip,group\na,1,g\n", 2, "licence", "no licence in 1 row"),
        ("path,clip,group,organ,licence\na,1,g,lung,CC0\nb,2,g,liver,CC0\n", 3, "group", "more than one organ"),
    ],
)
def test_what_is_only_worth_a_look_does_not_stop_the_reading(tmp_path, content, line, column, remark):
    file = write(tmp_path, content)
    [(at, where, message)] = found(file, serious=False)
    assert (at, where) == (line, column) and re.search(remark, message)
    assert read_manifest(file, files=False)[0].group == "g"


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="not a file"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(CorpusError, match="workbook"):
        read_manifest(write(tmp_path, b"PK\x03\x04 and so on"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"broken Parquet|needs pyarrow"):
        read_manifest(tmp_path / "cut.parquet")


def test_parquet_cells_that_text_would_change_are_told(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    columns = {"path": ["a", "b"], "clip": [1, 2], "group": [1.0, 2.0], "label": [None, None], "licence": ["CC0"] * 2}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
    assert [(line, column) for line, column, _ in found(tmp_path / "m.parquet")] == [(None, "group")]
    assert [row.clip for row in examine(tmp_path / "m.parquet", files=False)[0]] == ["1", "2"]


def test_without_pyarrow_parquet_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    with pytest.raises(CorpusError, match=r"usbackbones\[parquet\]"):
        write_manifest([Row("a", "b", "c")], tmp_path / "m.parquet")
    assert not list(tmp_path.iterdir())
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"usbackbones\[parquet\]"):
        read_manifest(tmp_path / "m.parquet")


def spoil(records, line, kind):
    """Put one fault of a kind into the row of a line; return where it is to be found."""
    cells, before = records[line - 2], records[0]
    if kind == "empty":
        cells["group"] = ""
        return line, "group"
    if kind == "control":
        cells["organ"] += "\x07"
        return line, "organ"
    if kind == "clip":
        cells["clip"] = before["clip"]
        return line, "clip"
    if kind == "path":
        cells["path"] = before["path"]
        return line, "path"
    if kind == "spelling":
        cells["label"] = " Benign" + " " * line  # all spaces at an end: one fault for every way to write it
        return line, "label"
    if kind == "missing":
        cells["path"] = f"gone{line}.mp4"
        return line, "path"
    cells["more"] = "x"
    return line, ""


@settings(max_examples=60, deadline=None)
@given(
    plan=st.dictionaries(
        st.integers(3, 40), st.sampled_from(["empty", "control", "clip", "path", "spelling", "missing", "ragged"])
    )
)
def test_every_fault_of_a_bad_file_is_found_and_nothing_else(tmp_path_factory, plan):
    folder = tmp_path_factory.mktemp("plan")
    records = []
    for number in range(39):
        (folder / f"{number}.mp4").touch()
        cells = {"path": f"{number}.mp4", "clip": f"c{number}", "group": f"g{number}"}
        records.append({**cells, "organ": f"organ{number}", "label": "benign", "licence": "CC0"})
    planted = {spoil(records, line, kind) for line, kind in plan.items()}
    lines = ["path,clip,group,organ,label,licence", *(",".join(cells.values()) for cells in records)]
    file = write(folder, "\n".join(lines))
    assert {(line, column) for line, column, _ in found(file, files=True)} == planted
    if planted:
        with pytest.raises(CorpusError) as error:
            read_manifest(file)
        shown = str(error.value).splitlines()
        assert f"has {len(planted)} fault" in shown[0]
        assert len(shown) == 1 + min(len(planted), 20) + (len(planted) > 20)
        assert len(planted) <= 20 or f"and {len(planted) - 20} more" in shown[-1]
    else:
        assert len(read_manifest(file)) == 39


@settings(max_examples=200, deadline=None)
@given(
    header=st.sampled_from([b"path,clip,group\n", b"path;clip;group;mask\r\n", b""]), content=st.binary(max_size=300)
)
def test_any_bytes_give_rows_or_an_error_that_says_why(tmp_path_factory, header, content):
    file = write(tmp_path_factory.mktemp("bytes"), header + content)
    try:
        assert all(row.clip and row.group for row in read_manifest(file, files=False))
    except CorpusError as error:
        assert str(file) in str(error)
