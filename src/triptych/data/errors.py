"""DataError, for data that are missing or invalid."""


class DataError(ValueError):
    """Missing or invalid data; the message names the file or row, what was expected and what to do."""


def reason(error: Exception) -> str:
    """Return the message of a library's or the system's error in one line, without the file's name if possible."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
