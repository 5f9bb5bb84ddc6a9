"""What stops a run for a reason that a person can act on."""


class InputError(Exception):
    """The data or the config is wrong; the message says where and how.

    rejected: where the rejected rows are, if they are why.
    """

    rejected = ""


class RefusedError(Exception):
    """A gate refused; the message says which bound was broken and how far."""


class FailedError(Exception):
    """The machine stopped the run; the message says what is to be done."""
