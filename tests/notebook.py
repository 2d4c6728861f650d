"""Write docs/howto/quickstart.ipynb from docs/howto/quickstart.md: python -m tests.notebook."""

import json

from tests.conftest import REPOSITORY
from tests.pages import page_text
from usbackbones._files import atomic_write

PAGE = "docs/howto/quickstart.md"
NOTEBOOK = "docs/howto/quickstart.ipynb"
FENCE = "```"


def notebook_of(text: str) -> str:
    """The page as a notebook without outputs: each block of Python is a code cell, all else is Markdown."""
    cells = []
    for number, part in enumerate(text.split(f"{FENCE}python\n")):
        code, fence, prose = part.rpartition(f"\n{FENCE}\n") if number else ("", "", part)
        if fence:
            cells.append(_cell(len(cells), "code", code) | {"execution_count": None, "outputs": []})
        cells.append(_cell(len(cells), "markdown", prose.strip("\n")))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    book = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, source: str) -> dict[str, object]:
    lines = source.splitlines(keepends=True)
    return {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines}


if __name__ == "__main__":
    with atomic_write(REPOSITORY / NOTEBOOK) as stream:
        stream.write(notebook_of(page_text(PAGE)).encode())
