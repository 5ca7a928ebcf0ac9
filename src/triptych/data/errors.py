"""The error of data that is missing or wrong."""


class DataError(ValueError):
    """Names the file or row, says what was expected and what to do."""
