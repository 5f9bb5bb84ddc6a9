"""HTTP routes that KServe's app lacks: TF Serving's, and v2 by version."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from kserve.errors import ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v2_datamodels import (
    InferenceRequest,
    InferenceResponse,
)
from kserve.protocol.rest.v2_endpoints import V2Endpoints

from serving.model import CtrModel, TfServingBody, VersionRepository


def tf_serving_router(repository: VersionRepository) -> APIRouter:
    """`/v1/models/...` as TF Serving has it."""
    router = APIRouter(prefix="/v1/models/{name}", tags=["TF Serving"])

    @router.post(":predict")
    @router.post("/versions/{version}:predict")
    async def predict(
        request: Request, name: str, version: str | None = None
    ) -> Response:
        body = await request.body()
        # The request holds this version to its end, whatever is switched in.
        model = _ready(repository, _key(name, version))
        answer, _ = await model(TfServingBody(body), dict(request.headers))
        return Response(answer, media_type="application/json")

    @router.get("")
    @router.get("/versions/{version}")
    async def status(name: str, version: str | None = None) -> JSONResponse:
        states = _states(repository)
        if version is None:
            repository.get_model(name)
        elif name != repository.name or version not in states:
            repository.get_model(_key(name, version))
        else:
            states = {version: states[version]}
        return JSONResponse({"model_version_status": list(states.values())})

    @router.get("/metadata")
    @router.get("/versions/{version}/metadata")
    async def metadata(name: str, version: str | None = None) -> JSONResponse:
        loaded = _ready(repository, _key(name, version)).loaded
        assert loaded is not None
        spec = {
            "name": name,
            "signature_name": "",
            "version": str(loaded.version),
        }
        definitions = {"signature_def": loaded.signature_defs}
        return JSONResponse(
            {"model_spec": spec, "metadata": {"signature_def": definitions}}
        )

    return router


def version_router(
    repository: VersionRepository, dataplane: DataPlane
) -> APIRouter:
    """`/v2/models/<name>/versions/<v>...`, which KServe answers with 501."""
    router = APIRouter(
        prefix="/v2/models/{name}/versions/{version}", tags=["V2"]
    )
    endpoints = V2Endpoints(dataplane)

    @router.post("/infer", response_model=None)
    async def infer(
        request: Request,
        response: Response,
        name: str,
        version: str,
        body: InferenceRequest | bytes,
    ) -> InferenceResponse | Response:
        return await endpoints.infer(
            request, response, _key(name, version), body
        )

    @router.get("/ready")
    async def ready(name: str, version: str) -> JSONResponse:
        model = _ready(repository, _key(name, version))
        return JSONResponse({"name": model.name, "ready": True})

    @router.get("")
    async def metadata(name: str, version: str) -> JSONResponse:
        key = _key(name, version)
        return JSONResponse(await dataplane.model_metadata(key))

    return router


def _key(name: str, version: str | None) -> str:
    return name if version is None else f"{name}/versions/{version}"


def _ready(repository: VersionRepository, key: str) -> CtrModel:
    model = repository.get_model(key)
    if not model.ready:
        raise ModelNotReady(key)
    return model


def _states(repository: VersionRepository) -> dict[str, Any]:
    # Newest first, as TF Serving lists them.
    snapshot = repository.snapshot
    states = dict.fromkeys(snapshot.loaded, ("AVAILABLE", ""))
    for version, reason in snapshot.failed.items():
        states.setdefault(version, ("END", reason))
    if snapshot.loading is not None:
        states.setdefault(snapshot.loading, ("LOADING", ""))
    return {
        str(version): {
            "version": str(version),
            "state": state,
            "status": {
                "error_code": "UNKNOWN" if reason else "OK",
                "error_message": reason,
            },
        }
        for version, (state, reason) in sorted(states.items(), reverse=True)
    }
