"""Errors of reading customers' files."""


class UnreadableFileError(Exception):
    """Error raised for a file that is itself at fault. The message tells its owner what is wrong and what to do."""
