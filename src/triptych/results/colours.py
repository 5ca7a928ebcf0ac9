"""The colours of all figures."""

BLUE, RED = "#2a6f97", "#c1121f"
GREY, DARK_GREY = "#adb5bd", "#495057"
HUES = (BLUE, RED, "#e09f3e", "#386641", "#7b2cbf", "#6c757d", "#f28482", "#0d1b2a", "#90be6d", "#3fb8af")
"""Colours of the lines or groups in one figure, in this order."""
