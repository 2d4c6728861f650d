"""NIfTI-1 and -2, plain or gzipped: nibabel reads the header, the voxels stream from the file."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import numpy as np

from usbackbones.clips.formats.base import PARSER_ERRORS, ClipError, Reading, Request
from usbackbones.clips.formats.volume import Volume, believed_spacing, check_volume, read_volume

DATATYPES: dict[int, str] = {
    **{2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64", 128: "RGB24"},
    **{256: "int8", 512: "uint16", 768: "uint32", 1024: "int64", 1280: "uint64"},
}
"""Those of NIfTI's codes that are read, with nibabel's names."""
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_FARTHEST = 1 << 48
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_nifti(request: Request, form: str) -> Reading:
    """Open a NIfTI file whose third axis, or fourth if the third has one slice, is the time.

    Args:
        request: what is wanted.
        form: "1" or "2", with " gzip" where it is compressed; "pair" for a header whose voxels lie elsewhere.

    Raises:
        ClipError: without nibabel, or if the header is damaged or describes no clip.
    """
    path, version = request.path, form.split()[0]
    if version == "pair":
        raise ClipError(f"{path}: a NIfTI header without its voxels; save both as one .nii file")
    try:
        import nibabel
        from nibabel.spatialimages import HeaderDataError
    except ImportError:
        raise ClipError(f"{path}: a NIfTI file, and nibabel is not installed; pip install nibabel") from None
    opened = gzip.open if form.endswith("gzip") else open
    try:
        with opened(path, "rb") as stream:
            kind = nibabel.Nifti1Header if version == "1" else nibabel.Nifti2Header
            header = kind.from_fileobj(stream, check=False)
        code = int(header["datatype"])
        if code not in DATATYPES:
            raise ClipError(f"{path}: NIfTI voxels of a type that is not read here (code {code}); save them as uint8")
        dtype, shape, start = header.get_data_dtype(), header.get_data_shape(), header.get_data_offset()
        slope, intercept = header.get_slope_inter()
        unit, time_unit = header.get_xyzt_units()
        steps = [float(step) for step in header["pixdim"]]
        axes = _axes(header)
        if not 0 <= start < _FARTHEST:
            raise ValueError("no place in a file")
    except ClipError:
        raise
    except (HeaderDataError, *PARSER_ERRORS) as error:
        raise ClipError(f"{path}: damaged NIfTI header ({type(error).__name__}); copy or export it again") from error

    @contextmanager
    def voxels() -> Iterator[BinaryIO]:
        with opened(path, "rb") as stream:
            stream.seek(start)
            yield cast(BinaryIO, stream)

    channels = 3 if dtype.names == ("R", "G", "B") else 1
    dtype = np.dtype(np.uint8) if channels == 3 else dtype
    frames = check_volume(request, dtype, tuple(map(int, shape)), channels)
    scale = _SECONDS.get(time_unit) if len(shape) > 3 and shape[3] > 1 else None
    volume = Volume(
        voxels,
        dtype,
        frames,
        channels,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        steps[4] * scale if scale and steps[4] > 0 else None,
        axes=axes,
    )
    scale = _MILLIMETRES.get(unit, 1.0)  # where the unit is unknown, millimetres are the custom
    spacing_mm = believed_spacing(steps[2] * scale, steps[1] * scale)
    if spacing_mm == (1, 1) and unit not in _MILLIMETRES:  # what nibabel writes where nobody told it the size
        spacing_mm = None
    return read_volume(request, volume, spacing_mm)


def _axes(header: Any) -> tuple[float, ...]:
    """Unit vectors of the three axes, one after the other, of the sform or else the qform; empty where neither is."""
    affine = next((form for form, code in (header.get_sform(True), header.get_qform(True)) if code), None)
    if affine is None or not np.isfinite(affine).all():
        return ()
    axes = affine[:3, :3].T
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return tuple((axes / lengths).ravel().tolist()) if lengths.all() else ()
