"""What can be wrong with a checkpoint."""


class CheckpointError(Exception):
    """A checkpoint's files are damaged, too large, or not ours."""
