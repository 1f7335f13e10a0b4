"""The error that input from outside raises: one line that says what was wanted, what came, what to do."""


class InputError(ValueError):
    """A model folder, data file, passage or option that can't be used as it is."""
