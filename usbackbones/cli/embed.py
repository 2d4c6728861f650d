"""usbackbones embed: the features of the frames of clips."""

import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn

from tyro.conf import Positional

from usbackbones._words import plural
from usbackbones.cli.options import AsJson, Count, Model, OptionalOut, Sheet, check_cleaning, write_preview
from usbackbones.cli.terminal import CommandError, network, noted, say, say_json, tell

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from usbackbones.clips.formats.base import Frames
    from usbackbones.features.cache import FeatureCache, Times
    from usbackbones.features.extract import Extractor


def embed_command(
    paths: Positional[tuple[Path, ...]],
    out: OptionalOut = None,
    model: Model = None,
    size: Count = None,
    level: Literal["pooled", "levels", "tokens"] = "pooled",
    batch: int = 32,
    stride: int = 1,
    fast: bool = False,
    clean: bool = False,
    preview: Sheet = None,
    cache: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Write the features of the frames of clips to an .npz or .parquet file.

    Each row is a frame: its features, `source`, the clip's path, `frame`, its number, `name`, the file's name of a
    still in a folder or zip, and `seconds`, its time. A clip that cannot be read is left out and named.

    Args:
        paths: videos, images, and folders of them; a folder of stills is one clip.
        out: the .npz or .parquet file; replaced whole if it is there.
        model: the weight, <arch>.<tag>; the default one if none is named.
        size: side of the input in pixels, if not the model's own; for a ViT a multiple of its patch.
        level: features [D]; level1 .. level4, each pooled; or tokens [C, h, w], the last map.
        batch: frames held and computed at a time.
        stride: every stride-th frame of a clip.
        fast: fold BatchNorm, and bf16 where it is faster; agrees to 2 %.
        clean: cut clips to the sector, text and calipers black; a whole clip is held then.
        preview: write an image of some clips before and after --clean, and stop.
        cache: a folder that keeps the features of each clip for the next time.
        as_json: print what was written as JSON.
    """
    from usbackbones.features.table import require

    if batch < 1 or stride < 1:
        raise CommandError(f"--batch {batch} --stride {stride}: both must be at least 1")
    if preview:
        write_preview(lambda: _clips(paths)[0], preview)
        return
    if out is None:
        raise CommandError("name the file with -o, or give --preview")
    check_cleaning(clean)
    try:
        require(out)
    except (ValueError, ImportError) as error:
        raise CommandError(str(error)) from error
    if out.is_dir():
        raise CommandError(f"{out} is a folder; write for example -o features.npz")
    import tempfile

    from usbackbones._run_folder import require_writable

    require_writable(out.parent)
    from usbackbones.clips.cleaned import record
    from usbackbones.features.cache import FeatureCache
    from usbackbones.features.extract import Extractor, fingerprint
    from usbackbones.features.table import write_features
    from usbackbones.hub.backbone import full_name

    name = full_name(model)
    found, faults = _clips(paths)
    if not found:
        _refuse(paths, faults)
    backbone = network(name, size=size)
    extractor = Extractor(backbone, level, batch, fast)
    settings = {"level": level, "computed": extractor.computed, "stride": stride}
    settings |= {"clean": record()} if clean else {}
    kept = FeatureCache(cache, fingerprint(backbone), **settings) if cache else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        ids, clips = _embed(found, spool, extractor, stride, clean, kept, faults)
        if not clips:
            _refuse(paths, faults)
        for fault in faults:
            tell(f"skipped: {fault}")
        write_features(out, spool, extractor.shapes, ids, {"model": name})
    shapes = {array: [len(ids.frame), *shape] for array, shape in extractor.shapes.items()}
    counts = {"hits": kept.hits, "misses": kept.misses, "mended": kept.mended} if kept else None
    if as_json:
        told = {"file": out, "model": name, "arrays": shapes, "computed": extractor.computed}
        say_json(told | {"clips": clips, "skipped": faults, "cache": counts})
        return
    arrays = ", ".join(f"{array} {shape}" for array, shape in shapes.items())
    say(f"{out}: {arrays} of {plural(clips, 'clip')} by {name}")
    if counts:
        say(f"cache {cache}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


def _clips(paths: tuple[Path, ...]) -> tuple[list[Path], list[str]]:
    """The clips at the paths, and what was wrong with a path."""
    from usbackbones.clips import ClipError, find_clips

    clips: dict[Path, None] = {}  # an ordered set: a clip may be named twice, by itself and by its folder
    faults: list[str] = []
    for path in paths:
        try:
            clips.update(dict.fromkeys(find_clips(path, noted)))
        except ClipError as error:
            faults.append(str(error))
    return list(clips), faults


def _refuse(paths: tuple[Path, ...], faults: list[str]) -> NoReturn:
    asked = ", ".join(map(str, paths)) or "no path was given"
    if len(faults) == 1:
        raise CommandError(f"nothing to embed: {faults[0]}")
    for fault in faults:
        tell(f"skipped: {fault}")
    raise CommandError(f"nothing to embed, {plural(len(faults), 'clip')} skipped, none read: {asked}")


def _embed(
    found: list[Path],
    spool: IO[bytes],
    extractor: "Extractor",
    stride: int,
    clean: bool,
    cache: "FeatureCache | None",
    faults: list[str],
) -> tuple[Any, int]:
    """Append the rows of every readable clip to the spool; returns their ids and the number of clips."""
    from tqdm import tqdm

    from usbackbones.clips.read import ClipError
    from usbackbones.features.table import Ids

    ids, clips = Ids(), 0
    bar = tqdm(found, "embedding", unit="clip", delay=1, miniters=0, disable=None)
    for clip in bar:
        start = spool.tell()
        try:
            seconds, names = _embed_one(clip, spool, extractor, stride, clean, cache, bar)
        except ClipError as error:
            faults.append(str(error))
            spool.seek(start)
            spool.truncate()
        else:
            clips += 1
            ids.source += [str(clip)] * len(seconds)
            ids.frame += [number * stride for number in range(len(seconds))]
            ids.seconds += seconds
            ids.name += names
    return ids, clips


def _embed_one(
    clip: Path,
    spool: IO[bytes],
    extractor: "Extractor",
    stride: int,
    clean: bool,
    cache: "FeatureCache | None",
    bar: "tqdm[Path]",
) -> "Times":
    """Append a clip's rows to the spool, from the cache where it has them; returns the seconds and name of each."""
    from tqdm import tqdm

    from usbackbones.clips.cleaned import cleaned_frames
    from usbackbones.clips.read import timed_frames
    from usbackbones.features.cache import blocks_of, clip_sum

    start = spool.tell()
    key = clip_sum(clip) if cache else None
    if cache and key:
        if (known := cache.read(key, extractor.width, spool)) is not None:
            return known
        spool.seek(start)
        spool.truncate()
    seconds, names, heard = list[float](), list[str](), list[str]()

    def warn(fault: str) -> None:
        heard.append(fault)
        with tqdm.external_write_mode(sys.stderr):
            tell(f"warning: {fault}")

    def counted(timed: "Frames") -> Iterator["np.ndarray"]:
        for frame, when in timed:
            seconds.append(float("nan") if when is None else when)
            yield frame
            bar.update(0)  # shows within a long clip too that the work goes on

    read = cleaned_frames if clean else partial(timed_frames, one_size=False)
    with closing(read(clip, stride=stride, warn=warn, names=names)) as timed:
        for rows in extractor.rows(counted(timed)):
            spool.write(rows.tobytes())
    # A clip with a warning is computed again, so that the warning is heard again.
    if cache and key and not heard:
        end = spool.tell()
        spool.seek(start)
        cache.write(key, (seconds, names), blocks_of(spool, end - start))
        spool.seek(end)
    return seconds, names
