"""Text tables written piece by piece, resumable after an interruption and moved into place when complete."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from triptych.data.errors import DataError
from triptych.files import atomic_write


class ResumableTable:
    """A text file written piece by piece as NAME.part, and renamed to NAME when the ``with`` block ends.

    NAME.part.json beside it records the progress. After an interruption of any kind, writing resumes after the last
    complete piece. A DataError, which resuming cannot repair, removes both files.

    Args:
        path: the file.
        made_from: what the pieces depend on: the weights, the names or content of the inputs. A table that was made
            from something else is not resumed.
        resume: continue an interrupted table; False starts over, and so does True if there is none.

    Attributes:
        inputs: number of inputs that the file already covers.
        bytes: size of the complete pieces; 0 for a new file.
        skipped: a line for each of those inputs that was skipped.

    Raises:
        DataError: the interrupted table belongs to another run or other inputs, or is damaged.
    """

    def __init__(self, path: Path, made_from: Sequence[str], resume: bool) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.state = path.with_name(f"{path.name}.part.json")
        self.key = hashlib.sha256(json.dumps(made_from).encode("utf-8", "surrogateescape")).hexdigest()
        self.inputs = 0
        self.bytes = 0
        self.skipped: list[str] = []
        # Without a state file, no piece was completed.
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
                f"{self.part} cannot be resumed: it belongs to another run or another input; leave out --resume, "
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
        """Append the next piece and flush it to disk.

        Args:
            text: complete lines.
            inputs: number of inputs that they cover, including skipped ones.
            skipped: a line for each skipped input.
        """
        self.bytes += self.file.write(text.encode("utf-8", "surrogateescape"))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.inputs += inputs
        self.skipped += skipped
        state = {"key": self.key, "inputs": self.inputs, "bytes": self.bytes, "skipped": self.skipped}
        with atomic_write(self.state) as aside:
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
