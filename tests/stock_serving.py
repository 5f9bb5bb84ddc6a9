"""Ask an export through the loader of TF Serving: a session, not eager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def ask(
    folder: str, inputs: Mapping[str, Any], signature: str = "serving_default"
) -> Any:
    """The `ctr` of a signature; the weights are those of `variables/`."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        meta = v1.saved_model.load(session, ["serve"], folder)
        asked = meta.signature_def[signature]
        feed = {asked.inputs[k].name: v for k, v in inputs.items()}
        return session.run(asked.outputs["ctr"].name, feed)
