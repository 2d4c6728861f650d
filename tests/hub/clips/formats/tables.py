"""All tables of docs/formats.md, and the page around them."""

from pathlib import Path

from tests.hub.clips.formats import orientation_cells, stills_cells
from tests.hub.clips.formats.table import Table, rendered

PAGE = Path(__file__).resolve().parents[4] / "docs" / "formats.md"
COMMAND = "python -m tests.hub.clips.formats"
HEAD = f"""# Formats: what is read, and how that was checked

Each layout that a reader knows is written by the tests and read twice, by `read_clip` and by an independent judge.
**same**: equal to the bit; of colors, whose luma is no whole number, to the nearest. **within N gray levels**: the two
lie no further apart, where compression or the conversion of colors rounds. **refused**: an error in one line that names
what is not read and the remedy. The layouts are enumerated from the lists that the readers themselves use; one without
a test fails the tests, and so does a page that differs from what they render. To write it anew: `{COMMAND}`.

"""

TABLES = (
    Table(
        "Stills",
        "Judges: OpenCV, Pillow's conversion of whole pages, and for BMP and TIFF the definitions of the standards, in "
        "float64. Layouts of PNG, JPEG and BMP are named as Pillow names stored pixels; those of TIFF by photometric "
        "interpretation, bits of a sample, and further samples (A alpha, a alpha that colors are multiplied by, X "
        "unspecified). TIFF is read in both byte orders and as BigTIFF. Transparency is left out with a warning.",
        "format",
        "layouts",
        stills_cells.layouts,
        stills_cells.cells,
        ("cv2",),
    ),
    Table(
        "Orientation of stills",
        "All eight orientations of EXIF and XMP. Judge: `exif_transpose` of Pillow.",
        "format",
        "where",
        orientation_cells.layouts,
        orientation_cells.cells,
    ),
)


def page() -> str:
    """The whole page as it is rendered now."""
    return HEAD + "\n".join(rendered(table) for table in TABLES)
