"""Export graph for documents: scanned pages in, cleaned pages out."""

from typing import Any

from torch import Tensor, nn

from triptych.data.serving.contract import Port

INPUT = Port("scan", "uint8", ("pages", 1, "height", "width"), "grey pages, 0 black to 255 white, all of one size")
OUTPUT = Port("page", "float32", INPUT.shape, "the cleaned pages, 0 black to 1 white", tolerance=1e-4)


class RawPages(nn.Module):
    """Wrapper that takes grey pages as scanned and scales them to [0, 1] for the model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, scan: Tensor) -> tuple[Tensor]:
        """uint8 (pages, 1, height, width) -> float32 of the same shape in [0, 1]."""
        return (self.model.predict(scan.float() / 255)["page"],)
