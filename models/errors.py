"""Errors that a person can act on, and the exit code of each."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """Base class of all of them: the message says what to do.

    exit_code: of the command that ends with the error.
    """

    exit_code = 1


class InputError(UserError):
    """The data or the config is wrong; the message says where and how.

    rejected: where the rejected rows are, if they are why.
    """

    exit_code = 2
    rejected = ""


class RefusedError(UserError):
    """A gate refused; the message says which bound was broken and how far.

    data_checks: what was found in the data, if that is why.
    """

    data_checks: dict[str, Any] | None = None


class FailedError(UserError):
    """The machine stopped the run; the message says what is to be done."""
