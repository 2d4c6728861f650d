"""All tables of docs/formats.md, and the page around them."""

from pathlib import Path

from tests.hub.clips.formats import (
    array_cells,
    dicom_cells,
    dicom_gray_cells,
    orientation_cells,
    stills_cells,
    video_cells,
    volume_cells,
)
from tests.hub.clips.formats.table import Table, rendered

PAGE = Path(__file__).resolve().parents[4] / "docs" / "formats.md"
COMMAND = "python -m tests.hub.clips.formats"
HEAD = f"""# Formats: what is read, and how that was checked

Each layout that a reader knows is written by the tests and read twice, by `read_clip` and by an independent judge.
**same**: equal to the bit; of colors, whose luma is no whole number, to the nearest. **within N gray levels**: the two
lie no further apart, where compression or the conversion of colors rounds. **refused**: an error in one line that names
what is not read and the remedy. The layouts are enumerated from the lists that the readers themselves use; one without
a test fails the tests, and so does a page that differs from what they render. To write it again: `{COMMAND}`.

"""

TABLES = (
    Table(
        "Stills",
        "Judges: OpenCV, Pillow's conversion of whole pages, and for BMP and TIFF the definitions of the standards, "
        "in float64. Layouts of PNG, JPEG and BMP are named as Pillow names stored pixels; those of TIFF by "
        "photometric interpretation, bits of a sample, and further samples (A alpha, a alpha that colors are "
        "multiplied by, X unspecified). TIFF is read in both byte orders and as BigTIFF. Transparency is left out "
        "with a warning.",
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
    Table(
        "Folders and zips",
        "Stills in natural order; litter and other files are left out. Judges: OpenCV and Pillow, file by file. A GIF "
        "counts as a video and not as a still.",
        "format",
        "where",
        array_cells.folder_layouts,
        array_cells.folder_cells,
        ("cv2",),
    ),
    Table(
        "Video",
        "Judges: OpenCV, whose FFmpeg is another build under the LGPL (the binary of imageio-ffmpeg is built under the "
        "GPL and no part of the tests), and of pixel formats what was written, in float64. Chroma of thinned colors is "
        "smoothed by OpenCV and not by a reader of gray, so the two are compared on gray content. OpenCV turns by "
        "right angles; mirrored frames are turned in the slow form of ISO 14496-12. Pixels that are no square are "
        "shown as they are stored.",
        "container or layout",
        "codecs and layouts",
        video_cells.layouts,
        video_cells.cells,
        ("cv2",),
    ),
    Table(
        "DICOM: transfer syntaxes and colors",
        "Frames of 8 bits, of odd and even width, by pixel and in planes. Writers: pydicom, gdcm, Pillow and OpenJPH; "
        "judges: pydicom with gdcm's decoders, OpenCV for JPEG, and the standard's definition where they know no more "
        "(retired colors, odd widths). … stands for 1.2.840.10008.1.2. A syntax that is in no list is read by what its "
        "frames say of themselves, with a warning.",
        "transfer syntax",
        "photometric interpretations",
        dicom_cells.layouts,
        dicom_cells.cells,
        ("pydicom", "gdcm", "cv2"),
    ),
    Table(
        "DICOM: bits, windows and palettes",
        "Judges: the definitions of PS3.3 in float64, and pydicom's rescaling and windows. Every number of bits that "
        "count, from 1 on, of those allocated. Samples of up to 8 bits are taken as they are, without a window; more "
        "by the window of the header or of the functional groups of a frame, its lookup table, or the range of their "
        "bits, with a warning where values fill less than an eighth of that.",
        "what",
        "layouts",
        dicom_gray_cells.layouts,
        dicom_gray_cells.cells,
        ("pydicom",),
    ),
    Table(
        "MetaImage",
        "Judge: SimpleITK. Byte orders and compression by every spelling of a flag; types are read in all of them. "
        "Voxels have no range of their own: values within 0..255 (floats within 0..1, times 255) are taken as they "
        "are, all others are stretched over the whole file, and the judges' numbers likewise, in float64. Directions "
        "are not applied, as SimpleITK's arrays have it: a frame is shown as it is stored, but for PlusToolkit's "
        "UltrasoundImageOrientation.",
        "what",
        "layouts",
        volume_cells.metaimage_layouts,
        volume_cells.metaimage_cells,
        ("SimpleITK",),
    ),
    Table(
        "NIfTI",
        "Judges: nibabel, and SimpleITK but for NIfTI-2, which it does not open, and a slope of 0, which it takes at "
        "its word. Types are NIfTI's by nibabel's names. Gray and directions as with MetaImage.",
        "what",
        "layouts",
        volume_cells.nifti_layouts,
        volume_cells.nifti_cells,
        ("SimpleITK", "nibabel"),
    ),
    Table(
        "NumPy",
        "Judge: `numpy.load`. Gray as with MetaImage. 3 x rows x columns of bytes are read as three frames, with a "
        "warning.",
        "what",
        "layouts",
        array_cells.layouts,
        array_cells.cells,
    ),
)


def page() -> str:
    """The whole page as it is rendered now."""
    return HEAD + "\n".join(rendered(table) for table in TABLES)
