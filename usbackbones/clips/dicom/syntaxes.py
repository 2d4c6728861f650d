"""Transfer syntaxes of DICOM by UID: frames that stand in a row, compressed ones, and what is not read and why.

A syntax that is in none of the three is read by what its frames say of themselves, with a warning.
"""

_BASE = "1.2.840.10008.1.2"

NATIVE = {
    "": "without one",
    _BASE: "Implicit VR Little Endian",
    f"{_BASE}.1": "Explicit VR Little Endian",
    f"{_BASE}.2": "Explicit VR Big Endian",
    f"{_BASE}.1.99": "Deflated Explicit VR Little Endian",
}
COMPRESSED = {
    f"{_BASE}.4.50": "JPEG Baseline",
    **{f"{_BASE}.4.{number}": "JPEG Extended" for number in (51, 52)},
    **{f"{_BASE}.4.{number}": "JPEG Spectral Selection" for number in (53, 54)},
    **{f"{_BASE}.4.{number}": "JPEG Full Progression" for number in (55, 56)},
    **{f"{_BASE}.4.{number}": "JPEG Lossless" for number in (57, 58, 70)},
    f"{_BASE}.4.80": "JPEG-LS Lossless",
    f"{_BASE}.4.81": "JPEG-LS Near-Lossless",
    f"{_BASE}.4.90": "JPEG 2000 Lossless",
    f"{_BASE}.4.91": "JPEG 2000",
    **{f"{_BASE}.4.{number}": "High-Throughput JPEG 2000" for number in (201, 202, 203)},
    f"{_BASE}.5": "RLE Lossless",
}
_VIDEO = (*range(100, 109), *(f"{number}.1" for number in range(100, 107)))
UNREAD = {
    **{f"{_BASE}.4.{number}": "frames of hierarchical JPEG" for number in range(59, 67)},
    **{f"{_BASE}.4.{number}": "frames of multi-component JPEG 2000" for number in (92, 93)},
    **{f"{_BASE}.4.{number}": "frames that lie on a server (JPIP)" for number in (94, 95, 204, 205)},
    **{f"{_BASE}.4.{number}": "a video within DICOM" for number in _VIDEO},
    **{f"{_BASE}.4.{number}": "frames of JPEG XL" for number in (110, 111, 112)},
    f"{_BASE}.1.98": "encapsulated uncompressed frames",
    **{f"{_BASE}.6.{number}": "DICOM within MIME or XML" for number in (1, 2)},
    **{f"{_BASE}.7.{number}": "a stream of video or sound (SMPTE ST 2110)" for number in (1, 2, 3)},
    f"{_BASE}.8.1": "single frames packed by deflate",
    "1.2.840.10008.1.20": "Papyrus 3",
    "1.2.840.113619.5.2": "big-endian pixels in a little-endian file (a private syntax of GE's)",
}
