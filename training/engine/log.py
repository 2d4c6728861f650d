"""Log of a run: a progress line, metrics.jsonl, and mirrors of it elsewhere if asked for."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from tqdm import tqdm

from training.engine.checkpoint import written_or_told
from training.errors import TrainingError
from usbackbones._files import atomic_write

Mirror = Literal["tensorboard", "trackio"]

logger = logging.getLogger(__name__)


class _Sink(Protocol):
    def write(self, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Journal:
    """The log of a run, one JSON object a step; a context manager.

    Args:
        folder: of the run.
        steps: of the whole run.
        done: of them before now.
        progress: show one line with loss, speed, share of the time spent on data, and time left.
        mirrors: where else the numbers go.
        silent: write and show nothing, as all processes but the first do.
    """

    def __init__(
        self, folder: Path, steps: int, done: int, progress: bool, mirrors: Sequence[Mirror], silent: bool
    ) -> None:
        self.file, self.silent = folder / "metrics.jsonl", silent
        self.sinks = [] if silent else [_SINKS[name](folder, done) for name in mirrors]
        self.bar = tqdm(total=steps, initial=done, unit="step", disable=silent or not progress)
        self.log = None if silent else self.file.open("a")

    def __enter__(self) -> "Journal":
        return self

    def write(self, record: Mapping[str, Any]) -> None:
        """Log one step."""
        if self.log is None:
            return
        with written_or_told(self.file):
            self.log.write(json.dumps(record) + "\n")
        for sink in self.sinks:
            sink.write(record["step"], {key: value for key, value in record.items() if key != "step"})
        self.bar.update()
        self.bar.set_postfix(
            loss=f"{record['loss']:.3f}",
            views=f"{record['views_per_second']:.0f}/s",
            data=f"{record['data_share']:.0%}",
            refresh=False,
        )

    def flush(self) -> None:
        """Bring all that was logged to the file, which must never lag behind a checkpoint."""
        if self.log is not None:
            with written_or_told(self.file):
                self.log.flush()

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        for sink in self.sinks:
            sink.close()
        if self.log is not None:
            try:
                self.log.close()
            except OSError as error:  # an error of its own may be under way, and tells more
                logger.warning("%s: its last lines could not be written (%s)", self.file, error)


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a line that a killed process left half written is not one of them."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def rewind_journal(folder: Path, step: int) -> None:
    """Forget what was logged from a step on: a run that continues from there logs it again."""
    with atomic_write(folder / "metrics.jsonl", "w") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in read_journal(folder) if record["step"] < step)


class _TensorBoard:
    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self.writer: Any = SummaryWriter(folder / "tensorboard", purge_step=done)

    def write(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Trackio:
    def __init__(self, folder: Path, done: int) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio") from error
        self.run = trackio.init(project="usbackbones", name=folder.name, resume="allow")

    def write(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


def _missing(package: str) -> TrainingError:
    return TrainingError(
        f"--mirror {package} needs the package {package}: pip install 'usbackbones[{package}]', or leave it out; "
        "metrics.jsonl has the same numbers"
    )


_SINKS: dict[Mirror, type[_TensorBoard] | type[_Trackio]] = {"tensorboard": _TensorBoard, "trackio": _Trackio}
