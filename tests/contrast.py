"""How well text can be told from its ground, by the colors that a browser computed."""

from tests.browser import Browser

# Every element with text of its own that is shown: a key, its color, and the colors behind it from the nearest on.
_CODE = """
[...document.querySelectorAll("body *")].filter((one) =>
  one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) &&
  !["SCRIPT", "STYLE", "TITLE", "title", "OPTION"].includes(one.tagName)
).map((one, number) => {
  const behind = [];
  for (let up = one; up; up = up.parentElement) behind.push(getComputedStyle(up).backgroundColor);
  const style = getComputedStyle(one);
  const key = `${number} ${one.tagName} ${one.textContent.trim().slice(0, 30)}`;
  return [key, one instanceof SVGElement ? style.fill : style.color, behind];
})
"""


def contrasts(browser: Browser) -> dict[str, float]:
    """The contrast ratio of WCAG 2, 1 to 21, of every element with text of its own."""
    found = {}
    for key, color, behind in browser.run(_CODE):
        ground = (255.0, 255.0, 255.0)
        for layer in reversed(behind):
            ground = _over(_parsed(layer), ground)
        lighter, darker = sorted((_luminance(_over(_parsed(color), ground)), _luminance(ground)), reverse=True)
        found[key] = (lighter + 0.05) / (darker + 0.05)
    return found


def _parsed(color: str) -> tuple[float, ...]:
    """ "rgb(1, 2, 3)" or "rgba(1, 2, 3, 0.5)" -> red, green, blue 0..255, opacity 0..1."""
    numbers = tuple(float(part) for part in color[color.index("(") + 1 : -1].split(","))
    return numbers if len(numbers) == 4 else (*numbers, 1.0)


def _over(color: tuple[float, ...], ground: tuple[float, ...]) -> tuple[float, ...]:
    *channels, opacity = color
    return tuple(c * opacity + g * (1 - opacity) for c, g in zip(channels, ground, strict=True))


def _luminance(color: tuple[float, ...]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
