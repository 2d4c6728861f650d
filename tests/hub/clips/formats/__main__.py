"""Write docs/formats.md again."""

from tests.hub.clips.formats.tables import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
