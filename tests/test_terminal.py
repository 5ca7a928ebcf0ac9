"""What is said on the terminal commands nothing."""

import logging

from triptych.terminal import TerminalHandler, harmless


def test_control_characters_are_left_out_and_lines_stay():
    assert harmless("a\x1b]0;b\x07\nGröße\r\u202ec") == "a ]0;b \nGröße  c"


def test_what_is_logged_is_harmless():
    record = logging.makeLogRecord({"msg": "No folder %s", "args": ("\x1b[2J",)})
    assert TerminalHandler().format(record) == "No folder  [2J"
