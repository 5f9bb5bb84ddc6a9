"""Requests that a version brings to be warmed up with, as in TF Serving.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import prediction_log_pb2

from serving.columns import Array

NAME = "assets.extra/tf_serving_warmup_requests"
_MOST = 1000  # records, as TF Serving
Request = tuple[str, dict[str, Array]]


def read(version: Path) -> Iterator[Request]:
    """Signature ("" is the default one) and inputs of each Predict request.

    Records of other kinds are passed over.

    Raises:
        struct.error, DecodeError: the file is damaged.
    """
    path = version / NAME
    if not path.is_file():
        return
    for record in itertools.islice(_records(path.read_bytes()), _MOST):
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        yield (
            request.model_spec.signature_name,
            {
                name: tensor_util.MakeNdarray(tensor)
                for name, tensor in request.inputs.items()
            },
        )


def _records(content: bytes) -> Iterator[bytes]:
    """Records of a TFRecord file; the manifest has its digest."""
    start = 0
    while start < len(content):
        (size,) = struct.unpack_from("<Q", content, start)
        start += 12  # the length and its checksum
        if start + size + 4 > len(content):
            raise struct.error("a record is cut off")
        yield content[start : start + size]
        start += size + 4
