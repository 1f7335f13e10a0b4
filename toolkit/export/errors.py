"""What exporting can't do."""


class ExportError(RuntimeError):
    """The model can't be written as the file that was asked for, or what was written does not hold."""
