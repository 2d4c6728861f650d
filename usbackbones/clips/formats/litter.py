"""Files and folders that an operating system leaves behind: never a clip, a class, a mask or a place in a split."""

_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}


def is_litter(name: str) -> bool:
    """True for the name of a hidden file or folder (`.DS_Store`, `._a.png`), and for those that systems leave behind.

    Args:
        name: of the entry itself, without the folders that it is in.
    """
    return name.startswith(".") or name.casefold() in _NAMES
