"""`lionctr serve`: serve a directory of exported versions."""

import functools
import gc
import importlib
import json
import os
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from serving import log_lines, tensorflow_parts
from serving.access import OPEN, Access
from serving.errors import ServingError
from serving.limits import DEFAULTS, Limits, LogOptions
from serving.listen import bind
from serving.model_folder import GRAPH, scan
from serving.object_store import is_store
from serving.store_versions import StoreVersions
from serving.versions import VersionWatcher

_POLL_SECONDS = 1.0
_STORE_POLL_SECONDS = 10.0  # each look is a request to the store


def serve(
    model_dir: Path | str,
    port: int = 8501,
    grpc_port: int = 8500,
    host: str = "127.0.0.1",
    keep: int = 2,
    allow_input_change: bool = False,
    public_key: Path | None = None,
    name: str | None = None,
    pin: int | None = None,
    limits: Limits = DEFAULTS,
    ignore_unknown: bool = False,
    access: Access = OPEN,
    log_requests: LogOptions | None = None,
) -> None:
    """Serves a model directory until SIGTERM or SIGINT.

    Requests under way are finished first, for up to 30 seconds.

    Args:
        model_dir: `<push.to>/<model name>`: integer version folders, each a
            SavedModel. New ones are picked up, removed ones dropped. Of an
            object store it is the URI; see `StoreVersions`.
        port: for HTTP; 0 takes a free one.
        grpc_port: for gRPC; 0 takes a free one.
        host: address to listen on. The default is this machine only; a
            container behind a service wants 0.0.0.0.
        keep: how many of the newest versions stay loaded.
        allow_input_change: whether a new version may replace the served one
            although it takes other inputs.
        name: of the model; by default the directory's.
        pin: the version to serve; by default the directory's pin, or the
            newest.
        public_key: serves only versions that are signed by its private key.
        limits: of requests, and of how long they wait for company.
        ignore_unknown: leaves columns out that are no feature.
        access: who may ask, and by TLS or not.
        log_requests: which requests are logged, and where; None: none.

    Raises:
        ServingError: there is no version to serve, or a port is taken.
    """
    store = None
    if is_store(str(model_dir)):
        store = StoreVersions(str(model_dir))
        store.first(keep, pin)
        model_dir = store.folder
    model_dir = Path(model_dir)
    folder_name = _model_name(model_dir)
    name = name or folder_name
    if public_key is not None and not public_key.is_file():
        raise ServingError(f"--verify: no file {public_key}")
    log_lines.set_up()
    access.check(host)
    listener = bind(host, port)
    bind(host, grpc_port).close()
    _load_runtime()
    from serving.metrics import ServingMetrics
    from serving.model import VersionRepository
    from serving.request_log import RequestLog
    from serving.savedmodel import LoadedModel, check_inputs

    # The libraries never go away; not looking at them makes the collection
    # after a version's unloading short.
    gc.collect()
    gc.freeze()
    threads = min(32, (os.cpu_count() or 1) + 4)
    with ThreadPoolExecutor(threads, "predict") as executor:
        # Beside the load of a version, which waits for no Python.
        ports = executor.submit(importlib.import_module, "serving.ports")
        metrics = ServingMetrics(name)
        request_log = (
            RequestLog(log_requests, metrics) if log_requests else None
        )
        repository = VersionRepository(
            name, executor, metrics, limits, ignore_unknown, request_log
        )
        metrics.watch(repository)
        watcher = VersionWatcher(
            model_dir,
            functools.partial(LoadedModel, public_key=public_key),
            repository.publish,
            keep,
            None if allow_input_change else check_inputs,
            pin,
            functools.partial(store.update, keep, pin) if store else None,
        )
        # Answer as soon as one version can; the others follow meanwhile.
        watcher.refresh(keep=1)
        if not repository.snapshot.loaded:
            failed = repository.snapshot.failed.items()
            reasons = "; ".join(f"{version}: {why}" for version, why in failed)
            raise ServingError(f"no version in {model_dir} loads: {reasons}")
        version, row = repository.example()
        server = ports.result().Server(
            repository, listener, host, grpc_port, access
        )
        watcher.start(_STORE_POLL_SECONDS if store else _POLL_SECONDS)

        def announce(grpc: int) -> None:
            shown = re.sub(r"^(0\.0\.0\.0|::)$", "localhost", host)
            shown = f"[{shown}]" if ":" in shown else shown
            http = listener.getsockname()[1]
            scheme = "http" if access.certificate is None else "https"
            url = f"{scheme}://{shown}:{http}/v1/models/{quote(name)}"
            body = shlex.quote(json.dumps({"instances": [row]}))
            with suppress(OSError):  # nobody reads it: serve all the same
                print(
                    f"serving {name} version {version} at {url}, "
                    f"gRPC {shown}:{grpc}; try: curl -d {body} {url}:predict",
                    flush=True,
                )

        try:
            server.run(announce)
        finally:
            watcher.stop()
            if request_log is not None:
                request_log.close()


def load() -> None:
    """Imports what a server needs: that takes seconds."""
    _load_runtime()
    importlib.import_module("serving.ports")


def _load_runtime() -> None:
    # TensorFlow reads it on import; its start-up notes help nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tensorflow_parts.prepare()
    importlib.import_module("serving.savedmodel")


def _model_name(model_dir: Path) -> str:
    if not model_dir.is_dir():
        raise ServingError(
            f"expected a directory of version folders. Received: {model_dir}"
        )
    if scan(model_dir):
        # The name as given, even where it is a link to something else.
        name = model_dir.name
        return name if name not in ("", "..") else model_dir.resolve().name
    hint = ""
    if (model_dir / GRAPH).exists():
        hint = f"; it is a version itself: give {model_dir.resolve().parent}"
    else:
        models = sorted(
            str(child)
            for child in model_dir.iterdir()
            if child.is_dir() and scan(child)
        )
        if models:
            hint = f"; give one of the models in it: {', '.join(models)}"
    raise ServingError(
        f"{model_dir} holds no version (a folder named by an integer){hint}"
    )
