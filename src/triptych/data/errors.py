"""The error of data that is missing or wrong."""


class DataError(ValueError):
    """Names the file or row, says what was expected and what to do."""


def reason(error: Exception) -> str:
    """What a library or the system says is wrong, in one line, without the file's name."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
