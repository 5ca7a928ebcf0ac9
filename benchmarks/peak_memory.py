"""Measure a command's peak resident memory: python peak_memory.py FILE COMMAND... writes the peak in KiB to FILE.

In a small process of its own, since the kernel counts a command's peak from the resident memory of the process that
starts it.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command, write its peak, and exit with its exit code."""
    target, *command = sys.argv[1:]
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    # macOS counts bytes.
    Path(target).write_text(str(usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
