"""Take a TCP port, before anything slow is loaded to serve on it."""

import socket

from serving.errors import ServingError


def bind(host: str, port: int) -> socket.socket:
    """Binds a port without listening.

    Until a model is loaded, whoever connects is refused rather than kept
    waiting.

    Args:
        host: an address or name of this machine.
        port: 0 takes a free one.

    Raises:
        ServingError: the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named;
    # with it on, every answer on a kept connection is 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServingError(
            f"cannot listen on {host}:{port}: {error}; "
            "give another port, or 0 for a free one"
        ) from None
    return listener
