"""What a component raises when the run must stop for a reason to read."""


class InputError(Exception):
    """The data or the config is wrong; the message says where and how."""


class RefusedError(Exception):
    """A gate refused; the message says which bound was broken and how far."""
