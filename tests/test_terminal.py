"""Text printed on the terminal contains no control sequences."""

import logging

from triptych.terminal import TerminalHandler, harmless


def test_control_characters_are_removed_and_line_breaks_kept():
    assert harmless("a\x1b]0;b\x07\nGröße\r\u202ec") == "a ]0;b \nGröße  c"


def test_log_messages_are_sanitised():
    record = logging.makeLogRecord({"msg": "No folder %s", "args": ("\x1b[2J",)})
    assert TerminalHandler().format(record) == "No folder  [2J"
