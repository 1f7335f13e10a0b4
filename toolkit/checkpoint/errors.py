"""The error that a folder raises which is no checkpoint that can be read, or no place to write one."""


class CheckpointError(ValueError):
    """One line: what was wanted, what came, what to do."""
