"""Each real file of a data set once, whatever names, links and rows it is reached by; what contradicts is refused."""

from collections import defaultdict
from collections.abc import Sequence

from usbackbones._words import plural
from usbackbones.clips.files import by_parts, file_kind, identity_of, is_still, shortened
from usbackbones.data.item import AnyItem, DataError, Note

_REMEDY = {
    "label": "keep one of the two",
    "group": "a file is of one patient",
    "part": "give it one split",
    "masks": 'give all masks of an image in one row, joined by "|", or keep one of the two',
    "spacing": "give it one spacing",
}


def each_once(items: Sequence[AnyItem], note: Note) -> list[AnyItem]:
    """The items without those whose file is another's, be it by a link, a hard link or a second row.

    Args:
        items: of a data set; of several names of a file the first that is no link is kept, in its place.
        note: gets a line that counts and names the others.

    Raises:
        DataError: if two names of a file are told to have different labels, groups, parts or masks.
    """
    named: dict[object, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        named[identity_of(item.path)].append(number)
    kept, again = set[int](), list[str]()
    for numbers in named.values():
        best = min(numbers, key=lambda number: (items[number].path.is_symlink(), number))
        kept.add(best)
        for other in numbers:
            if other != best:
                _refuse_contradiction(items[other], items[best])
                again.append(items[other].path.name)
    if again:
        names = plural(len(again), "name")
        note(f"{names} of files that were named before, which count once: {shortened(sorted(again))}")
    return [item for number, item in enumerate(items) if number in kept]


def refuse_frames_of_folders(items: Sequence[AnyItem]) -> None:
    """Refuse stills that are items beside the folder that they are frames of, which is a clip and an item too.

    Raises:
        DataError: naming the first.
    """
    folders = {identity_of(item.path) for item in items if item.path.is_dir()}
    for item in items if folders else ():
        if identity_of(item.path.parent) in folders and is_still(file_kind(item.path)):
            raise DataError(f"{item.path} is a frame of {item.path.parent}, which is a row too: keep one of the two")


def in_natural_order(items: Sequence[AnyItem]) -> list[AnyItem]:
    """The items of a table in the natural order of their paths, so that nothing depends on the order of rows."""
    return sorted(items, key=lambda item: by_parts(item.path))


def _refuse_contradiction(item: AnyItem, other: AnyItem) -> None:
    for what, remedy in _REMEDY.items():
        one, two = (_told(each, what) for each in (item, other))
        if one != two:
            same = "is named twice" if item.path == other.path else f"is the file of {other.path}"
            values = f" ({two}, {one})" if isinstance(one, str) else ""
            name = {"masks": "other masks", "part": "another split"}.get(what, f"another {what}")
            raise DataError(f"{item.path} {same}, with {name}{values}: {remedy}")


def _told(item: AnyItem, what: str) -> object:
    value = getattr(item, what, None)
    return {identity_of(mask) for mask in value} if what == "masks" and value is not None else value
