"""The code on the page `docs/distribution.md`, by heading."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "distribution.md"


def code_under(heading):
    """Returns the blocks of Python code between a heading and the next."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text("utf-8"), flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    return re.findall(r"^```py\n(.*?)^```", sections[heading], re.M | re.S)
