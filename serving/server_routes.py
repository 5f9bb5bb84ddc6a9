"""HTTP routes of the server itself: health, metrics, which models there are."""

import importlib.metadata
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from serving.model import VersionRepository, not_ready

SERVER_NAME = "lion-ctr"


def about() -> dict[str, Any]:
    """The server's name and version, and what it offers."""
    return {
        "name": SERVER_NAME,
        "version": importlib.metadata.version(SERVER_NAME),
        "extensions": ["binary_tensor_data", "model_repository_extension"],
    }


def server_router(repository: VersionRepository) -> APIRouter:
    """Paths that name no model, and the repository extension of v2."""
    router = APIRouter()

    async def alive() -> dict[str, str]:
        return {"status": "alive"}

    async def live() -> dict[str, bool]:
        return {"live": True}

    async def ready() -> dict[str, bool]:
        if not repository.ready:
            raise not_ready(repository.name)
        return {"ready": True}

    async def models() -> dict[str, list[str]]:
        return {"models": [repository.name]}

    async def load(name: str) -> dict[str, Any]:
        repository.load(name)
        return {"name": name, "load": True}

    async def unload(name: str) -> dict[str, Any]:
        repository.unload(name)
        return {"name": name, "unload": True}

    def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"content-type": kind})

    async def server() -> dict[str, Any]:
        return about()

    router.add_api_route("/", alive)
    router.add_api_route("/metrics", metrics)
    router.add_api_route(
        "/monitoring/prometheus/metrics", metrics, tags=["TF Serving"]
    )
    router.add_api_route("/v1/models", models, tags=["V1"])
    for path, endpoint in (
        ("", server),
        ("/health/live", live),
        ("/health/ready", ready),
        ("/models", models),
    ):
        router.add_api_route(f"/v2{path}", endpoint, tags=["V2"])
    for verb, change in (("load", load), ("unload", unload)):
        router.add_api_route(
            f"/v2/repository/models/{{name}}/{verb}",
            change,
            methods=["POST"],
            tags=["V2"],
        )
    return router
