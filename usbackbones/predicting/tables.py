"""Tables of predictions that grow clip by clip, survive an interruption, and appear under their names at the end.

While a run is going on its rows lie in a folder beside the output. After some clips a line of a journal says how long
both tables are, so that the same call goes on behind the last of these.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from usbackbones._files import atomic_write, write_json
from usbackbones.predicting.trained import PredictError

Row = Mapping[str, object]


class Tables:
    """The rows of frames and of clips.

    Attributes:
        done: number of clips whose rows are written.
        errors: number of these that could not be read.
    """

    def __init__(self, place: Path, settings: Mapping[str, Any], frames: Sequence[str], clips: Sequence[str]) -> None:
        """Begin, or go on with, the tables of a run.

        Args:
            place: the folder that keeps them until the end.
            settings: what decides the rows, to be kept there; see `Places.claim`, which compares them.
            frames: columns of the table of frames.
            clips: columns of the table of clips.

        Raises:
            PredictError: if the place cannot be written.
        """
        self.place, self.columns = place, {"frames": list(frames), "clips": list(clips)}
        self.done = self.errors = 0
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PredictError(f"{place.parent} cannot be written ({error.strerror}): choose another -o") from error
        with atomic_write(place / "settings.json", "w", encoding="utf-8") as stream:
            json.dump(settings, stream, sort_keys=True)
        lengths = self._last_line()
        self._streams: dict[str, IO[bytes]] = {}
        for name in self.columns:
            stream = (place / f"{name}.csv").open("ab")
            stream.truncate(lengths.get(name, 0))
            stream.seek(0, io.SEEK_END)
            self._streams[name] = stream
            if name not in lengths:
                self._write(name, [dict(zip(self.columns[name], self.columns[name], strict=True))])
        self._journal = (place / "done.jsonl").open("a", encoding="utf-8")

    def add(self, clips: Sequence[tuple[Sequence[Row], Row]]) -> None:
        """Append the rows of some clips, of each those of its frames and its own; they count once all are written."""
        for frames, clip in clips:
            self._write("frames", frames)
            self._write("clips", [clip])
            self.done += 1
            self.errors += bool(clip["error"])
        lengths = {name: stream.tell() for name, stream in self._streams.items()}
        self._journal.write(json.dumps(lengths | {"done": self.done, "errors": self.errors}) + "\n")
        self._journal.flush()

    def finish(self, frames: Path, clips: Path, about: Path, content: Mapping[str, Any]) -> None:
        """Copy both tables to their names (.csv or .parquet), write `about`, and remove the place."""
        self.close()
        for name, file in (("frames", frames), ("clips", clips)):
            table = self.place / f"{name}.csv"
            if file.suffix == ".parquet":
                with atomic_write(file) as stream:
                    _write_parquet(table, stream, {key: str(value) for key, value in content.items()})
            else:  # a copy, so that a run that is killed here finds its rows again
                with atomic_write(file) as stream, table.open("rb") as rows:
                    shutil.copyfileobj(rows, stream)
        write_json(about, content)
        shutil.rmtree(self.place)

    def close(self) -> None:
        """Close the files; what is written stays for the next call."""
        for stream in self._streams.values():
            stream.close()
        self._journal.close()

    def _write(self, name: str, rows: Sequence[Row]) -> None:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns[name], lineterminator="\n").writerows(rows)
        self._streams[name].write(text.getvalue().encode())
        self._streams[name].flush()

    def _last_line(self) -> dict[str, int]:
        """The lengths of both tables behind the last clips of the journal; none for a new run."""
        file = self.place / "done.jsonl"
        last: dict[str, int] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                last = json.loads(line)
            except json.JSONDecodeError:
                break  # the line that was being written
        tables = {name: self.place / f"{name}.csv" for name in self.columns}
        if any(not table.is_file() or table.stat().st_size < last.get(name, 0) for name, table in tables.items()):
            last = {}
        with atomic_write(file, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(last) + "\n" if last else "")
        self.done, self.errors = last.get("done", 0), last.get("errors", 0)
        return last


def _write_parquet(table: Path, stream: IO[bytes], about: Mapping[str, str]) -> None:
    """Convert a CSV batch by batch; numbers are float64, all else text."""
    import pyarrow as pa
    from pyarrow import csv as pa_csv
    from pyarrow import parquet

    with table.open(newline="", encoding="utf-8") as text:
        names = next(csv.reader(text))
    types = {name: pa.float64() if _is_number(name) else pa.string() for name in names}
    with pa_csv.open_csv(
        table,
        convert_options=pa_csv.ConvertOptions(column_types=types),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
    ) as reader:
        schema = reader.schema.with_metadata(dict(about))
        with parquet.ParquetWriter(stream, schema) as writer:
            for batch in reader:
                writer.write_batch(batch.replace_schema_metadata(dict(about)))


def _is_number(column: str) -> bool:
    return column.startswith(("prob_", "area_", "value_")) or column in ("frame", "frames", "seconds", "value")
