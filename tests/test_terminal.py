"""Text printed on the terminal contains no control sequences."""

import logging

import pytest

from triptych.terminal import TerminalHandler, harmless


def test_control_characters_are_removed_and_line_breaks_kept():
    assert harmless("a\x1b]0;b\x07\nGröße\r\u202ec") == "a ]0;b \nGröße  c"


def test_log_messages_are_sanitised():
    record = logging.makeLogRecord({"msg": "No folder %s", "args": ("\x1b[2J",)})
    assert TerminalHandler().format(record) == "No folder  [2J"


@pytest.mark.parametrize(("error", "reported"), [(BrokenPipeError, False), (UnicodeError, True)])
def test_a_closed_pipe_is_no_logging_error(
    error: type[Exception], reported: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Closed:
        def write(self, text: str) -> None:
            raise error("gone")

    monkeypatch.setattr("sys.stdout", Closed())
    TerminalHandler().emit(logging.makeLogRecord({"msg": "an epoch"}))
    assert ("Logging error" in capsys.readouterr().err) is reported
