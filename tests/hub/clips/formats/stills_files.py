"""PNG, TIFF and BMP of every pixel layout that their standards know, written byte by byte from their definitions."""

import struct
import zlib

import numpy as np


def pack(samples: np.ndarray, bits: int) -> bytes:
    """Samples [H, N] in rows of whole bytes, the first in the highest bits; 16 bits are big-endian, see `little`."""
    if bits >= 8:
        return samples.astype(f">u{bits // 8}").tobytes()
    places = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(places.reshape(len(samples), -1), axis=1).tobytes()


def write_png(path, samples, color, bits, *, palette=None, chunks=()):
    """A PNG of samples [H, W, C]; `chunks` (name, content) come before the pixels."""
    height, width, _ = samples.shape
    rows = [pack(row.reshape(1, -1), bits) for row in samples]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    if palette is not None:
        content += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    content += b"".join(chunk(*each) for each in chunks)
    content += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    path.write_bytes(content)
    return path


def write_tiff(path, pages, *, big_endian=False, big_tiff=False, **tags):
    """A TIFF, or a BigTIFF, of pages (packed pixels, {tag: (type, values)}), each in one strip.

    Args:
        path: where to.
        pages: pixels as bytes, or a tuple of bytes where the samples lie in planes; and the tags of the page.
        big_endian: byte order of the file.
        big_tiff: whether places are of 64 bits.
        tags: none.
    """
    order = ">" if big_endian else "<"
    code, width = ("Q", 8) if big_tiff else ("I", 4)
    content = bytearray(b"MM" if big_endian else b"II")
    content += struct.pack(f"{order}HHH", 43, 8, 0) if big_tiff else struct.pack(f"{order}H", 42)
    link = len(content)
    content += struct.pack(f"{order}{code}", 0)
    for pixels, tags in pages:
        planes = pixels if isinstance(pixels, tuple) else (pixels,)
        starts = []
        for plane in planes:
            starts.append(len(content))
            content += plane + b"\0" * (len(plane) % 2)
        tags = {**tags, 273: ("I", starts), 279: ("I", [len(plane) for plane in planes])}
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            value = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(value) > width:
                value, place = struct.pack(f"{order}{code}", len(content)), value
                content += place + b"\0" * (len(place) % 2)
            number = {"B": 1, "H": 3, "I": 4}[kind]
            entries += struct.pack(f"{order}HH{code}", tag, number, len(values)) + value.ljust(width, b"\0")
        struct.pack_into(f"{order}{code}", content, link, len(content))
        content += struct.pack(f"{order}{'Q' if big_tiff else 'H'}", len(tags)) + entries
        link = len(content)
        content += struct.pack(f"{order}{code}", 0)
    path.write_bytes(content)
    return path


def write_bmp(path, rows, width, bits, *, masks=None, palette=None, top_down=False, compression=None):
    """A BMP of packed rows of pixels, from the top; `masks` are those of red, green, blue and alpha."""
    rows = [row + b"\0" * (-len(row) % 4) for row in rows]
    body = b"".join(rows if top_down else reversed(rows))
    kind = (3 if masks else 0) if compression is None else compression
    table = b"" if palette is None else np.pad(palette[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    size = 108 if masks else 40
    height, colors = -len(rows) if top_down else len(rows), 0 if palette is None else len(palette)
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, kind, len(body), 0, 0, colors, 0)
    if masks:
        header += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)
    start = 14 + len(header) + len(table)
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + table + body)
    return path
