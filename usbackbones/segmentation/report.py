"""Report of a segmenter's training: metrics, a sheet of test images, and report.html."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from usbackbones._evenly import evenly
from usbackbones._words import plural, rounded
from usbackbones.data.patients import counted
from usbackbones.report import picture_section, table_section, write_report
from usbackbones.segmentation.masked import Masked, frame_of, truth_of
from usbackbones.segmentation.trainer import Segmenter

ABOUT = ("path", "frame", "group", "mask", "empty")
Row = dict[str, str | float]
"""Of a test image its path, frame, group, the metrics, the file of its mask, and 1 where its truth is empty."""
COLORS = (
    (255, 196, 0), (0, 158, 255), (213, 94, 0), (0, 190, 120), (204, 121, 167), (240, 228, 66), (120, 94, 240)
)  # fmt: skip
"""RGB of the classes in a written mask; after the last they start again."""
SHOWN = 12
"""Pictures of the overlay, evenly spread from the worst Dice to the best."""
CELL = 192


@dataclass(frozen=True)
class Segmented:
    """What came of it.

    Attributes:
        folder: of the outputs.
        metrics: {"dice" | "iou" | "hd95_pixels": {"value", "low", "high"}} of the test pictures at their own size,
            95 % intervals over groups; "hd95_mm" as well where the size of a pixel is known of every one.
        coco: of a Mask R-CNN COCO's average precision at the training size, see `dense_scores.coco_ap`; else empty.
        counts: pictures and groups of each part.
        epochs: that were run.
        untrained: mean Dice of the validation part before the first step.
        validation: mean Dice of the validation part by the weights that were kept.
        joined: near-duplicates of different groups that were kept together, in a line; empty where there are none.
        patients: how many there are and who tells them apart.
        unit: what a group is, "patient" or "group"; "" where nobody tells patients apart.
        notes: what was noted about the data: patients, frames, the meaning of the masks, files that were passed over.
        was_finished: the folder held this very run, finished, and nothing was done.
        license: of the weights, with where it comes from.
    """

    folder: Path
    metrics: dict[str, dict[str, float]]
    coco: dict[str, float]
    counts: dict[str, dict[str, int]]
    epochs: int
    untrained: float
    validation: float
    joined: str = ""
    patients: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()
    was_finished: bool = False
    license: str = ""

    @property
    def learned(self) -> str:
        """The validation Dice before training and by the weights that were kept."""
        kept, epochs = rounded(self.validation), plural(self.epochs, "epoch")
        return f"{rounded(self.untrained)} before training, {kept} by the weights kept of {epochs}"


def told_empty(empty: int, images: int) -> str:
    """What the metrics rest on where the truth of some images is empty; "" where it is of none."""
    if not empty:
        return ""
    return (
        f"{empty} of {plural(images, 'test image')} with an empty truth: an empty mask found there counts as Dice 1 "
        "and distance 0, any other as Dice 0 and the diagonal of the image"
    )


def color_of(number: int) -> tuple[int, int, int]:
    """RGB of a class, counted from 1."""
    return COLORS[(number - 1) % len(COLORS)]


def mask_image(labels: np.ndarray) -> Image.Image:
    """A mask for a PNG: black and white of bool [H, W], a palette of the numbers of labels uint8 [H, W]."""
    image = Image.fromarray(labels)
    if labels.dtype != bool:
        image.putpalette([0, 0, 0, *(level for number in range(1, 256) for level in color_of(number))])
    return image


def write_segment_report(run: Segmenter, done: Segmented, sheet: np.ndarray, pictures: bool) -> None:
    """Write report.html of a finished run; the sheet of `overlay`, uint8 [H, W, 3], only with `pictures`."""
    facts = {
        "backbone": run.name,
        "head": f"{run.spec.head}, {plural(run.spec.in_chans, 'channel')}, {run.spec.size} x {run.spec.size} pixels",
        "license of the weights": done.license,
        "patients": done.patients,
        "masks": "; ".join(line for line in done.notes if line.startswith("masks: ")),
        **{part: counted(n, done.unit) for part, n in done.counts.items()},
        "validation Dice": done.learned,
    }
    coco = [[name.replace("_", " "), rounded(value)] for name, value in done.coco.items()]
    sections = [table_section("COCO", ["average precision", "test part"], coco)] if coco else []
    note = "True outlines green, found ones red, from the worst test image to the best."
    if pictures:
        sections.append(picture_section("Test images", [("true green, found red", sheet)], note))
    write_report(
        done.folder / "report.html",
        "Segmentation",
        facts=facts,
        metrics={"image": done.metrics},
        history=[
            {"epoch": number}
            | {"validation: Dice" if name == "validation" else name: of for name, of in record.items()}
            for number, record in enumerate(run.history, start=1)
        ],
        sections=sections,
        pictures=pictures,
        unit=done.unit or "file",
    )


def overlay(items: list[Masked], rows: list[Row], out: Path) -> Image.Image:
    """Test images from the worst to the best, the true outline green, the found one red, the Dice in the corner.

    `rows` are those of `segmentation.run.evaluate`, `out` the folder of the masks.
    """
    from scipy.ndimage import binary_erosion

    scores = [float(row["dice"]) for row in rows]
    order = np.argsort(scores)
    chosen = order[evenly(len(order), SHOWN)]
    columns = min(4, len(chosen))
    sheet = Image.new("RGB", (columns * CELL, -(-len(chosen) // columns) * CELL))
    for place, number in enumerate(chosen):
        frame = frame_of(items[number])
        truth = truth_of(items[number], (frame.shape[0], frame.shape[1]))
        found = np.asarray(Image.open(out / str(rows[number]["mask"])))
        side = (CELL, CELL)
        pixels = np.array(Image.fromarray(frame).convert("RGB").resize(side, Image.Resampling.BILINEAR))
        for mask, color in ((truth, (0, 220, 0)), (found, (255, 60, 60))):
            labels = np.asarray(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST))
            for large in (labels == number for number in range(1, int(labels.max()) + 1)):
                pixels[large & ~binary_erosion(large, iterations=2)] = color
        cell = Image.fromarray(pixels)
        ImageDraw.Draw(cell).text((4, 4), f"{scores[number]:.2f}", fill=(255, 255, 0))
        sheet.paste(cell, (place % columns * CELL, place // columns * CELL))
    return sheet
