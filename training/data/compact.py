"""A cache as one small file, to be carried to another machine: a zip of images that anyone can open.

    python -m training.data.compact pack cache/lung lung.zip
    python -m training.data.compact unpack lung.zip cache/lung

JPEG loses a little: lung clips of 224 px at quality 95 take 21 % of the bytes, and a gray value moves by 0.6 of 255 in
the mean, by 10 at most; at 85 these are 12 %, 1.0 and 24. What is unpacked is then another cache, with a hash of its
own. PNG (`--image png`) loses nothing, takes 36 %, and unpacks to the same cache, byte for byte.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from training.data.cache import open_cache, read_index, shard_file
from training.data.errors import CorpusError, short_errors
from usbackbones._files import atomic_write
from usbackbones._words import plural

Image = Literal["jpeg", "png"]


def pack(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    image: Image = "jpeg",
    quality: int = 95,
) -> None:
    """Write a cache into one file, the same bytes for the same cache.

    Args:
        folder: made by training.data.prepare.run.
        out: zip file with index.json, report.json and frames/<clip>/<frame>.jpg or .png, numbered from 0.
        image: jpeg loses a little, png nothing.
        quality: of JPEG, 1 to 100.

    Raises:
        CorpusError: if it is no whole cache, or the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise CorpusError(f"--quality {quality}: give 1 to 100")
    cache, index = open_cache(folder), read_index(folder)
    if image == "jpeg":
        index["plan"]["compact"] = f"jpeg {quality}"  # so that what is unpacked is never taken for the cache itself
    suffix = {"jpeg": ".jpg", "png": ".png"}[image]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if image == "jpeg" else []
    with atomic_write(out) as stream, zipfile.ZipFile(stream, "w") as archive:
        _add(archive, "index.json", json.dumps(index, indent=1).encode())
        _add(archive, "report.json", (folder / "report.json").read_bytes())
        for number in tqdm(range(len(cache.clips)), unit="clip", desc="packing"):
            for place, frame in enumerate(cache.clip(number)):
                _, coded = cv2.imencode(suffix, frame, options)
                _add(archive, f"frames/{number:06d}/{place:05d}{suffix}", coded.tobytes())
    how = f"JPEG of quality {quality}, not exact: unpacked it is another cache" if image == "jpeg" else "PNG, exact"
    print(f"{out}: {plural(len(cache.frames), 'frame')}, {out.stat().st_size:,} bytes; {how}")  # noqa: T201


def unpack(file: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Make the cache that was packed.

    Args:
        file: made by the command pack.
        out: folder of the cache; must hold none yet.

    Raises:
        CorpusError: if the file is not a packed cache or damaged, or the folder holds a cache.
        OSError: if the folder cannot be written.
    """
    if (out / "index.json").exists():
        raise CorpusError(f"{out} holds a cache already: give another folder")
    with _reading(file), zipfile.ZipFile(file) as archive:
        index, report = json.loads(archive.read("index.json")), archive.read("report.json")
        promised = [(shard["frames"], shard["sha256"]) for shard in index["shards"]]
        size, lossless = index["plan"]["size"], "compact" not in index["plan"]
        names = sorted(name for name in archive.namelist() if name.startswith("frames/"))
        if len(names) != sum(count for count, _ in promised):
            raise ValueError(f"{plural(len(names), 'frame')}, not as many as promised")
    whole = hashlib.sha256()
    with closing(_frames(file, names, size)) as frames:
        for number, (count, sha256) in enumerate(tqdm(promised, unit="shard", desc="unpacking")):
            digest = hashlib.sha256()
            with atomic_write(shard_file(out, number)) as stream:
                for frame in islice(frames, count):
                    stream.write(frame)
                    digest.update(frame.data)
                    whole.update(frame.data)
            with _reading(file):
                if lossless and digest.hexdigest() != sha256:
                    raise ValueError(f"shard {number} has another hash than when it was packed")
            index["shards"][number]["sha256"] = digest.hexdigest()
    index["sha256"] = whole.hexdigest()
    for name, content in (("report.json", report), ("index.json", json.dumps(index, indent=1).encode())):
        with atomic_write(out / name) as stream:
            stream.write(content)
    same = "as they were packed" if lossless else f"which {index['plan']['compact']} has changed: another cache"
    print(f"{out}: {plural(len(open_cache(out).frames), 'frame')}, {same}")  # noqa: T201


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Tell what goes wrong as damage of the packed file; what goes wrong while a cache is written is none of it."""
    try:
        yield
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, cv2.error) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{file} is not a packed cache, or damaged ({reason}): pack or copy it again") from error


def _frames(file: Path, names: Sequence[str], size: int) -> Generator[np.ndarray, None, None]:
    """The packed frames of these names, uint8 [size, size] each."""
    with _reading(file), zipfile.ZipFile(file) as archive:
        for name in names:
            frame = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_GRAYSCALE)
            if frame is None or frame.shape != (size, size):
                raise ValueError(f"{name} is no gray image of {size} px")
            yield frame


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a member without the time of day, which would make every file another one."""
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    archive.writestr(member, content)


COMMANDS: dict[str, Callable[..., None]] = {"pack": pack, "unpack": unpack}

if __name__ == "__main__":
    with short_errors(CorpusError):
        tyro.extras.subcommand_cli_from_dict(COMMANDS)
