"""Errors of reading customers' files."""


class UnreadableFileError(Exception):
    """Error of a file that cannot be read. The message states to its owner what is wrong and what to do."""
