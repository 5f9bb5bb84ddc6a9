"""One process of a training by several: what each pod of a job runs.

    python -m models.worker JOB.json

JOB.json holds what TFX gives to `models.trainer.run_fn`: `custom_config`,
`transform_output`, `train_files`, `eval_files`, `serving_model_dir`,
`model_run_dir` and `hyperparameters` (a Tuner's, or null), all at places that
each process reaches by the same name; with `train.warm_start` also
`base_model`. TF_CONFIG says which ones there are: the training operator v1
sets it in the pods of a TFJob. Kubeflow Trainer v2 knows no TensorFlow; there
LIONCTR_WORKERS, the number of pods, has it made of the pod's name (JobSet).

Exit codes, as the training operator's restartPolicy ExitCode and the
podFailurePolicy of `deploy/trainjob.yaml` read them: 1 and 2 end the job, those
from 128 on restart the process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Mapping
from types import SimpleNamespace

import tensorflow as tf

from models.errors import InputError
from models.trainer import run_fn
from models.training.cluster import workers
from models.training.distribution import LOST

_PORT = 2222
PEER_LOST = 138  # the operator's "retryable, by the user's word"
_FIELDS = (
    "custom_config",
    "transform_output",
    "train_files",
    "eval_files",
    "serving_model_dir",
    "model_run_dir",
    "hyperparameters",
)
log = logging.getLogger("lionctr.train")


def tf_config(environment: Mapping[str, str], hostname: str) -> str | None:
    """TF_CONFIG of a pod of a JobSet; None where LIONCTR_WORKERS is not set.

    JobSet names pods `<jobset>-<replicated job>-<job>-<pod>`, in the domain
    `<jobset>` (jobset.sigs.k8s.io).

    Raises:
        InputError: LIONCTR_WORKERS is no number, or the name is no such name.
    """
    given = environment.get("LIONCTR_WORKERS")
    if given is None:
        return None
    match = re.fullmatch(r"(.+)-([a-z0-9]+)-(\d+)-(\d+)", hostname)
    if not given.isdecimal() or match is None or int(match[4]) >= int(given):
        raise InputError(
            f"LIONCTR_WORKERS: received {given!r} on the host {hostname!r};"
            " accepted: the number of pods of a JobSet, on one of them, which"
            " is named <jobset>-<replicated job>-<job>-<pod>"
        )
    jobset, replicated, job, pod = match.groups()
    workers = [
        f"{jobset}-{replicated}-{job}-{index}.{jobset}:{_PORT}"
        for index in range(int(given))
    ]
    return json.dumps(
        {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": int(pod)},
        }
    )


def main(path: str) -> int:
    """Trains as the file at `path` says; returns the exit code."""
    try:
        if "TF_CONFIG" not in os.environ:
            config = tf_config(os.environ, socket.gethostname())
            if config is not None:
                os.environ["TF_CONFIG"] = config
        with tf.io.gfile.GFile(path) as file:
            job = json.loads(file.read())
        missing = [name for name in _FIELDS if name not in job]
        if missing:
            raise InputError(f"{path}: missing: {', '.join(missing)}")
        given = {name: job[name] for name in _FIELDS}
        run_fn(SimpleNamespace(**given, base_model=job.get("base_model")))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except LOST as error:
        if workers() < 2:
            raise
        print(f"Another process was lost: {error.message}", file=sys.stderr)
        return PEER_LOST
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # TensorFlow's threads would wait for the process that was lost.
    os._exit(code)
