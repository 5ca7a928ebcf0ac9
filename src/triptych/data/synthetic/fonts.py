"""Fonts that are the same everywhere."""

from pathlib import Path

import matplotlib
from PIL import ImageFont


def load_font(name: str, size: float) -> ImageFont.FreeTypeFont:
    """Load a font that matplotlib ships: the same everywhere. Basic layout, because Raqm is not everywhere."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
