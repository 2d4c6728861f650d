"""Files of every layout of PNG, JPEG, BMP, GIF, WebP and TIFF, with OpenCV or the standard's definition as judge."""

import itertools

import numpy as np
from PIL import Image, ImageFilter, TiffImagePlugin

from tests.hub.clips.formats.stills_files import pack, write_bmp, write_png, write_tiff
from tests.hub.clips.formats.table import Cell, luma
from usbackbones.clips.formats.layouts import LAYOUTS, TIFF_COMPRESSIONS, tiff_layout

HEIGHT, WIDTH = 6, 9


def draw(*shape, bits=8):
    """Random samples of so many bits."""
    return np.random.default_rng(bits).integers(0, 1 << bits, shape)


def smooth():
    """An RGB image that lossy compression keeps, of odd width."""
    return Image.fromarray(draw(24, 35, 3).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))


def by_opencv(path):
    """Frames as OpenCV shows them: upright, in color, 16 bits cut to their high byte."""
    import cv2

    _, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_COLOR)
    return luma(np.stack(pages)[..., ::-1])


def png(layout):
    """PNG by the name of its stored pixels; every second file has transparency as a chunk of its own."""
    mode, _, depth = {"1": "L;1", "I;16B": "L;16"}.get(layout, layout).partition(";")
    bits = int(depth.removesuffix("B") or 8)
    color, samples = {"L": (0, 1), "RGB": (2, 3), "P": (3, 1), "LA": (4, 2), "RGBA": (6, 4)}[mode]
    palette = draw(1 << bits, 3) if mode == "P" else None
    clear = {"L": b"\0\0", "RGB": bytes(6), "P": bytes([0, 90])}.get(mode)
    for chunks in ((), ((b"tRNS", clear),)) if clear else ((),):
        yield Cell(
            lambda folder, chunks=chunks: write_png(
                folder / "a.png", draw(HEIGHT, WIDTH, samples, bits=bits), color, bits, palette=palette, chunks=chunks
            ),
            by_opencv,
            int(layout in ("RGB;16B", "RGBA;16B")),
        )


def jpeg(layout):
    """JPEG of 1, 3 or 4 components, sequential and progressive, of whole and of thinned chroma."""
    mode = {"CMYK;I": "CMYK"}.get(layout, layout)
    for progressive, subsampling in itertools.product((False, True), (0, 1, 2)):
        options = {"progressive": progressive, "subsampling": subsampling, "quality": 95}

        def write(folder, options=options):
            smooth().convert(mode).save(folder / "a.jpg", **options)
            content = (folder / "a.jpg").read_bytes()
            if layout == "CMYK":  # without Adobe's word, ink is stored as it is
                place = content.index(b"\xff\xee")
                length = 2 + int.from_bytes(content[place + 2 : place + 4], "big")
                (folder / "a.jpg").write_bytes(content[:place] + content[place + length :])
            return folder / "a.jpg"

        yield Cell(write, by_opencv if layout != "CMYK" else by_pillow_inverted, 2)


def by_pillow_inverted(path):
    """CMYK stored as it is, by the definition of ink: light that neither the color nor black takes away."""
    with Image.open(path) as image:
        ink = np.asarray(image, np.float64)
    return luma((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)[None]


_MASKS = {"R": 0, "G": 1, "B": 2, "A": 3}


def bmp(layout):
    """BMP by the order of its bytes; X is a byte that counts for nothing."""
    if layout in ("1", "L") or layout.startswith("P"):
        bits = {"1": 1, "P;1": 1, "P;4": 4}.get(layout, 8)
        gray = np.repeat(np.linspace(0, 255, 1 << bits).astype(int)[:, None], 3, 1)
        palette = gray if layout in ("1", "L") else draw(1 << bits, 3)
        samples, masks = draw(HEIGHT, WIDTH, bits=bits), None
        rows, expected = [pack(row[None], bits) for row in samples], luma(palette[samples])
        options = {"palette": palette}
    elif layout in ("BGR;15", "BGR;16"):
        widths = (5, 5 + (layout == "BGR;16"), 5)
        parts = [draw(HEIGHT, WIDTH, bits=bits) for bits in widths]
        words = (parts[0] << widths[1] + 5 | parts[1] << 5 | parts[2]).astype("<u2")
        rows, bits = [row.tobytes() for row in words], 16
        shares = [part * 255 / ((1 << width) - 1) for part, width in zip(parts, widths, strict=True)]
        expected = luma(np.stack(shares, -1))
        options = {"masks": (0xF800, 0x7E0, 0x1F, 0)} if layout == "BGR;16" else {}
    else:
        samples = draw(HEIGHT, WIDTH, len(layout))
        rows, bits = [row.astype(np.uint8).tobytes() for row in samples], 8 * len(layout)
        expected = luma(samples[..., [layout.index(color) for color in "RGB"]])
        masks = tuple(0xFF << 8 * layout.index(color) if color in layout else 0 for color in "RGBA")
        options = {} if layout in ("BGR", "BGRX") else {"masks": masks}
    within = 2 if layout in ("BGR;15", "BGR;16") else 0
    for top_down in (False, True):
        yield Cell(
            lambda folder, down=top_down: write_bmp(folder / "a.bmp", rows, WIDTH, bits, top_down=down, **options),
            lambda path: expected[None],
            within,
        )


def decoded(form):
    """GIF and WebP, still and animated, by the mode that their decoder gives."""

    def cells(layout):
        rgba = draw(2, HEIGHT, WIDTH, 4).astype(np.uint8)
        rgba[..., 3] |= 1  # of a pixel without any opacity, encoders drop the color
        for count in (1, 2):

            def write(folder, count=count):
                mode = "RGB" if form == "gif" and layout == "RGBA" else layout
                frames = [Image.fromarray(frame, "RGBA").convert(mode) for frame in rgba[:count]]
                options = {"lossless": True, "exact": True} if form == "webp" else {}
                frames[0].save(folder / f"a.{form}", save_all=count > 1, append_images=frames[1:], **options)
                return folder / f"a.{form}"

            yield Cell(write, by_pillow_pages)

    return cells


def by_pillow_pages(path):
    """Every page by Pillow's conversion to RGB."""
    with Image.open(path) as image:
        pages = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            pages.append(luma(np.asarray(image.convert("RGB"))))
    return np.stack(pages)


def _layouts_of_pillow():
    """By name, how TIFF stores each layout that Pillow opens: (photometric, form, bits, extra, planes)."""
    for order, photometric, form, fill, bits, extra in TiffImagePlugin.OPEN_INFO:
        if order == b"II" and fill == 1:
            for planes in (False, True) if len(bits) > 1 else (False,):
                stored = (photometric, max(form), bits, extra, planes)
                yield tiff_layout(*stored), stored


TIFFS = dict(_layouts_of_pillow())


def tiff(layout):
    """TIFF of either byte order by its definition; in its BigTIFF form too."""
    if layout == "YCbCr 8 JPEG":
        yield Cell(lambda folder: _saved(folder, smooth().convert("YCbCr"), "jpeg"), by_opencv, 2)
        return
    photometric, form, bits, extra, planes = TIFFS[layout]
    depth, channels = bits[0], len(bits)
    samples = draw(HEIGHT, WIDTH + 1, channels, bits=min(depth, 32))
    palette = draw(3, 1 << depth, bits=16) if photometric == 3 else None
    expected = _shown(photometric, samples, depth, palette)
    orders = (False,) if layout in ("WhiteIsZero 16", "BlackIsZero 12") else (False, True)  # Pillow opens no other
    for big_endian, big_tiff in itertools.product(orders, (False, True)):
        if big_endian and big_tiff:  # neither does it open these
            continue

        def packed(part, big_endian=big_endian):
            if depth < 16:
                return pack(part.reshape(len(part), -1), depth) if depth != 12 else _twelve(part)
            return part.astype(f"{'>' if big_endian else '<'}{' uif'[form]}{depth // 8}").tobytes()

        tags = {256: [WIDTH + 1], 257: [HEIGHT], 258: bits, 259: [1], 262: [photometric], 277: [channels]}
        tags |= {278: [HEIGHT], 284: [1 + planes], 339: [form] * channels} | ({338: extra} if extra else {})
        tags |= {320: palette.ravel().tolist()} if palette is not None else {}
        pixels = tuple(packed(part) for part in np.moveaxis(samples, -1, 0)) if planes else packed(samples)
        yield Cell(
            lambda folder, pixels=pixels, tags=tags, options=(big_endian, big_tiff): write_tiff(
                folder / "a.tif",
                [(pixels, {tag: ("H", values) for tag, values in tags.items()})],
                big_endian=options[0],
                big_tiff=options[1],
            ),
            lambda path: expected[None],
            int(depth in (12, 16) or photometric in (3, 5)),
        )


def _twelve(samples):
    """Two samples of 12 bits in three bytes."""
    first, second = samples.reshape(len(samples), -1, 2).transpose(2, 0, 1)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()


def _shown(photometric, samples, bits, palette):
    """Gray by the definitions of TIFF 6.0."""
    if photometric == 3:
        return luma(np.moveaxis(palette[:, samples[..., 0]], 0, -1) / 257)
    share = samples * 255 / ((1 << bits) - 1)
    if photometric == 5:
        return luma((255 - share[..., :3]) * (255 - share[..., 3:4]) / 255)
    return 255 - share[..., 0] if photometric == 0 else share[..., 0] if photometric == 1 else luma(share[..., :3])


def _saved(folder, image, compression):
    image.save(folder / "a.tif", compression=compression)
    return folder / "a.tif"


def compressed(compression):
    """TIFF pages of each kind that a compression takes; of one that is refused, its number with any bytes."""
    if compression not in TIFF_COMPRESSIONS:
        code = next(code for code, name in TiffImagePlugin.COMPRESSION_INFO.items() if name == compression)
        tags = {256: [8], 257: [8], 258: [8], 259: [code], 262: [1], 277: [1], 278: [8]}
        page = (bytes(64), {tag: ("H", values) for tag, values in tags.items()})
        yield Cell(lambda folder: write_tiff(folder / "a.tif", [page]), by_opencv)
        return
    modes = ("L", "RGB") if compression == "jpeg" else ("L", "RGB", "1")
    modes = ("1",) if compression in ("tiff_ccitt", "group3", "group4") else modes
    for mode in modes:
        image = smooth().convert(mode)
        written = luma(np.asarray(image.convert("RGB")))[None]
        judge = by_opencv if compression == "jpeg" else lambda path, written=written: written
        yield Cell(lambda folder, image=image: _saved(folder, image, compression), judge, 2 * (compression == "jpeg"))


WRITERS = {"PNG": png, "JPEG": jpeg, "BMP": bmp, "GIF": decoded("gif"), "WEBP": decoded("webp"), "TIFF": tiff}


def heif(_):
    """What a phone stores; pixels do not matter, since no byte of them is read."""

    def write(folder):
        Image.fromarray(draw(32, 32, 3).astype(np.uint8)).save(folder / "a.avif")
        return folder / "a.avif"

    yield Cell(write, by_opencv)


def layouts():
    """Every layout that is read, and those of TIFF that Pillow opens and that are refused."""
    for form, names in LAYOUTS.items():
        yield from ((form, name) for name in dict.fromkeys([*names, *(TIFFS if form == "TIFF" else ())]))
        if form == "TIFF":
            known = TiffImagePlugin.COMPRESSION_INFO.values()
            yield from (("TIFF compression", name) for name in dict.fromkeys([*TIFF_COMPRESSIONS, *known]))
    yield "HEIF", "any"


def cells(form, layout):
    """The files of a layout."""
    if form == "TIFF compression":
        return compressed(layout)
    return heif(layout) if form == "HEIF" else WRITERS[form](layout)
