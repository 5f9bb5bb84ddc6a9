"""The two ways in which a user of the server can be told no."""


class ServingError(ValueError):
    """The server cannot start: the model directory or a port is wrong."""

    exit_code = 2  # of `lionctr serve`


class BadInputError(ValueError):
    """A request does not fit the model's signature; names the feature."""
