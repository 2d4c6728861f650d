"""Rows of features with their ids, as .npz or Parquet; written piece by piece, so that memory stays small."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from usbackbones._files import atomic_write

SUFFIXES = (".npz", ".parquet")
_PIECE = 1024  # rows converted at a time


@dataclass
class Ids:
    """What the rows are of.

    Attributes:
        source: the path of each row's clip.
        frame: its number in the clip.
        seconds: its time in the clip, nan where the file does not tell.
        name: of the file of a still in a folder or zip; "" for frames of other clips.
    """

    source: list[str] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    name: list[str] = field(default_factory=list)


def write_features(
    file: Path, spool: IO[bytes], shapes: Mapping[str, tuple[int, ...]], ids: Ids, about: Mapping[str, str]
) -> None:
    """Write a table, whole or not at all.

    Args:
        file: its suffix decides the form, one of `SUFFIXES`.
        spool: the rows, float32, in a real file.
        shapes: of the arrays that stand in a row one after the other; see `features.Extractor`.
        ids: of the rows.
        about: the weight and the like: scalars in an .npz, metadata of the schema in Parquet.

    Raises:
        ImportError: Parquet without pyarrow.
    """
    spool.flush()
    width = sum(math.prod(shape) for shape in shapes.values())
    rows = np.memmap(spool, np.float32, "r", shape=(len(ids.frame), width))
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
    columns = {name: rows[:, start:end] for name, start, end in zip(shapes, starts, starts[1:], strict=False)}
    with atomic_write(file) as stream:
        (_write_npz if file.suffix == ".npz" else _write_parquet)(stream, columns, shapes, ids, about)


def _write_npz(
    stream: IO[bytes],
    columns: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    ids: Ids,
    about: Mapping[str, str],
) -> None:
    """What `np.savez` writes, but a large array is never in memory as a whole."""
    small = {
        "frame": np.asarray(ids.frame, np.int64),
        "seconds": np.asarray(ids.seconds, np.float64),
        "source": np.asarray(ids.source),
        "name": np.asarray(ids.name),
        **{name: np.asarray(value) for name, value in about.items()},
    }
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            head = {"descr": "<f4", "fortran_order": False, "shape": (len(column), *shapes[name])}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_2_0(member, head)
                for start in range(0, len(column), _PIECE):
                    member.write(np.ascontiguousarray(column[start : start + _PIECE], "<f4").tobytes())
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_parquet(
    stream: IO[bytes],
    columns: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    ids: Ids,
    about: Mapping[str, str],
) -> None:
    """One row a frame; an array is a list of fixed length in C order, its shape stands in the schema's metadata."""
    pa, parquet = _pyarrow()
    lists = [pa.field(name, pa.list_(pa.float32(), column.shape[1])) for name, column in columns.items()]
    told = {**about, **{f"shape of {name}": "x".join(map(str, shape)) for name, shape in shapes.items()}}
    schema = pa.schema(
        [("source", pa.string()), ("frame", pa.int64()), ("name", pa.string()), ("seconds", pa.float64()), *lists],
        metadata=told,
    )
    with parquet.ParquetWriter(stream, schema) as writer:
        for start in range(0, len(ids.frame), _PIECE):
            part = slice(start, start + _PIECE)
            arrays = [
                pa.FixedSizeListArray.from_arrays(pa.array(column[part].ravel()), column.shape[1])
                for column in columns.values()
            ]
            # pandas and polars know a missing number as null.
            times = pa.array(ids.seconds[part], pa.float64(), from_pandas=True)
            known = [ids.source[part], ids.frame[part], ids.name[part]]
            writer.write_table(pa.Table.from_arrays([*known, times, *arrays], schema=schema))


def require(file: Path) -> None:
    """Refuse a suffix that cannot be written, or not here.

    Raises:
        ValueError: another suffix.
        ImportError: Parquet without pyarrow.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file} is no name for features; end it in {' or '.join(SUFFIXES)}")
    if file.suffix == ".parquet":
        _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'usbackbones[parquet]'") from error
    return pyarrow, parquet
