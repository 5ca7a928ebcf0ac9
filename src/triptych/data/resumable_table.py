"""Tables that are written in pieces, and are whole or not there."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from triptych.data.errors import DataError
from triptych.files import replaced


class ResumableTable:
    """A text file that grows piece by piece under the name NAME.part, and becomes NAME when the ``with`` block ends.

    Beside it, NAME.part.json says how far it has come. After an interruption, of whatever kind, it goes on behind the
    last whole piece. A DataError, which no resuming mends, removes both.

    Args:
        path: the file.
        made_from: what the pieces are made from: the weights, the inputs' names or content. A table that was made from
            something else is not resumed.
        resume: go on with what is there; False begins anew, and so does True where nothing is there.

    Attributes:
        inputs: how many inputs the file already tells of.
        skipped: a line for each of those that were skipped.

    Raises:
        DataError: what is there cannot be resumed.
    """

    def __init__(self, path: Path, made_from: Sequence[str], resume: bool) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.state = path.with_name(f"{path.name}.part.json")
        self.key = hashlib.sha256(json.dumps(made_from).encode("utf-8", "surrogateescape")).hexdigest()
        self.inputs = 0
        self.bytes = 0
        self.skipped: list[str] = []
        # Without a state no piece was ever whole.
        if resume and self.part.exists() and self.state.exists():
            self._find_place()

    def _find_place(self) -> None:
        try:
            state = json.loads(self.state.read_text("utf-8"))
            self.inputs, self.bytes, self.skipped = int(state["inputs"]), int(state["bytes"]), list(state["skipped"])
            same = state["key"] == self.key and self.part.stat().st_size >= self.bytes
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise DataError(
                f"{self.part} cannot be resumed, for it is not of this run and this input: leave out --resume, "
                "or choose another folder"
            )

    def __enter__(self) -> "ResumableTable":
        if not self.bytes:
            self.state.unlink(missing_ok=True)
        self.file = self.part.open("r+b" if self.bytes else "wb")
        self.file.truncate(self.bytes)
        self.file.seek(self.bytes)
        return self

    def write(self, text: str, inputs: int, skipped: Sequence[str] = ()) -> None:
        """Add the next piece.

        Args:
            text: whole lines.
            inputs: how many inputs they tell of, skipped ones included.
            skipped: a line for each that was skipped.
        """
        self.bytes += self.file.write(text.encode("utf-8", "surrogateescape"))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.inputs += inputs
        self.skipped += skipped
        state = {"key": self.key, "inputs": self.inputs, "bytes": self.bytes, "skipped": self.skipped}
        with replaced(self.state) as aside:
            aside.write_text(json.dumps(state) + "\n", "utf-8")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()
        if error is None:
            self.part.replace(self.path)
        elif isinstance(error, DataError):
            self.part.unlink()
        else:
            return
        self.state.unlink(missing_ok=True)
