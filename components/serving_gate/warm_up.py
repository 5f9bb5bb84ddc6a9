"""Requests that servers are warmed up with, in TF Serving's own format.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from components.serving_gate.rows import Rows


def requests(model: str, rows: Rows) -> Iterator[predict_pb2.PredictRequest]:
    """Requests of the gate by gRPC: all rows at once, and one by one."""
    yield rows.request(model, slice(None))
    yield rows.examples_request(model)
    for row in range(len(rows.serialized)):
        yield rows.request(model, slice(row, row + 1))


def write(path: str, asked: Iterable[predict_pb2.PredictRequest]) -> None:
    """Writes TFRecords of PredictionLogs."""
    with tf.io.TFRecordWriter(path) as writer:
        for request in asked:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
