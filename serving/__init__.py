"""Serve an exported model over HTTP and gRPC, and ask it for predictions."""

from serving.client import Client, PredictError
from serving.errors import BadInputError, ServingError

__all__ = ["BadInputError", "Client", "PredictError", "ServingError"]
