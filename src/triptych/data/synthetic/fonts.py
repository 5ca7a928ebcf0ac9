"""Fonts that are the same on every machine."""

from pathlib import Path

import matplotlib
from PIL import ImageFont


def load_font(name: str, size: float) -> ImageFont.FreeTypeFont:
    """Load a font that matplotlib ships, with the basic layout engine, because Raqm is not installed everywhere."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
