"""Requests that a version brings to be warmed up with, as in TF Serving.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.columns import Array

NAME = "assets.extra/tf_serving_warmup_requests"
_MOST = 1000  # records, as TF Serving
Request = tuple[str, dict[str, Array]]


def read(version: Path) -> Iterator[Request]:
    """Signature ("" is the default one) and inputs of each Predict request.

    Records of other kinds are passed over.

    Raises:
        tf.errors.OpError, ValueError: the file is damaged.
    """
    path = version / NAME
    if not path.exists():
        return
    for record in tf.data.TFRecordDataset([str(path)]).take(_MOST):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        if log.WhichOneof("log_type") != "predict_log":
            continue
        request = log.predict_log.request
        yield (
            request.model_spec.signature_name,
            {name: tf.make_ndarray(t) for name, t in request.inputs.items()},
        )
