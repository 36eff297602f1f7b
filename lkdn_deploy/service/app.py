"""The application: its paths, and their description as OpenAPI."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lkdn_deploy import __version__
from lkdn_deploy.service import figures, problems
from lkdn_deploy.service.desk import MEDIA_TYPES, Desk
from lkdn_deploy.service.problems import Problem

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PROBLEMS = {
    401: "The token is missing or wrong.",
    408: "The picture did not arrive in time.",
    413: "The picture has too many bytes or pixels, or needs too much memory.",
    415: "The body is no picture of a format that can be read.",
    421: "The header Host names another machine.",
    422: "The options are wrong, the picture is damaged, or its result cannot be made.",
    500: "The process that worked on the picture was lost, or a device failed.",
    503: "All workers and places of the queue are taken, or the service is about to end.",
    504: "The picture was not done in time.",
}
_SENT = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp", "image/avif", "image/jxl", "image/gif")

_FACTS = {
    "X-Lkdn-Size": "Width and height of the result in pixels.",
    "X-Lkdn-Model": "The network and its scale.",
    "X-Lkdn-Backend": "The engine that ran it.",
    "X-Lkdn-Exact": "Whether the result equals that of the picture in one piece.",
    "X-Lkdn-Notes": "JSON: sentences on what the result does not hold of the picture.",
    "Server-Timing": "Milliseconds in the network.",
}


def create_app(desk: Desk, parameters: Sequence[Mapping[str, Any]], *, secured: bool = False) -> FastAPI:
    """Return the application.

    Args:
        desk: answers requests for pictures.
        parameters: the options of such a request, as OpenAPI describes parameters.
        secured: whether a token is needed, for the description.
    """
    app = FastAPI(
        title="lkdn-serve",
        version=__version__,
        description="Upscales pictures with super-resolution networks: the options of lkdn-upscale over HTTP.",
        docs_url=None,  # its page would load scripts from another site
        redoc_url=None,
        redirect_slashes=False,
    )

    @app.post("/upscale", summary="Upscale a picture", response_class=Response, openapi_extra=_operation(parameters))
    async def upscale(request: Request) -> Response:
        return await desk.answer(request)

    @app.get("/healthz", summary="Whether pictures are taken", responses=_responses(503))
    async def health() -> Response:
        if desk.draining or not desk.pool.alive:
            why = "this service is about to end" if desk.draining else "no worker is ready"
            raise Problem(503, why, None, {"Retry-After": "5"})
        return JSONResponse({"status": "ok", "workers": desk.pool.alive, "running": desk.running})

    @app.get("/metrics", summary="Figures for Prometheus", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        return Response(desk.metrics.text(), media_type=figures.MEDIA_TYPE)

    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _problem)
    described = app.openapi

    def openapi() -> dict[str, Any]:
        found = described()
        components = found.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = problems.SCHEMA
        if secured:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path in ("/upscale", "/metrics"):
                for operation in found["paths"][path].values():
                    operation["security"] = [{"token": []}]
        return found

    app.openapi = openapi  # type: ignore[method-assign]
    return app


async def _problem(_: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return error.response()
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    phrase = HTTPStatus(error.status_code).phrase
    return Problem(error.status_code, phrase, "GET /openapi.json describes what there is", error.headers).response()


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {problems.MEDIA_TYPE: {"schema": schema}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def _operation(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in _FACTS.items()}
    done = {
        "description": "The larger picture.",
        "headers": headers,
        "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY),
    }
    refused = {str(status): text for status, text in _responses(*_PROBLEMS).items()}
    refused["503"] = {
        **refused["503"],
        "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}},
    }
    return {
        "parameters": list(parameters),
        "requestBody": {
            "description": "The bytes of the picture, whose format is recognised by them.",
            "required": True,
            "content": dict.fromkeys((*_SENT, "application/octet-stream"), _BINARY),
        },
        "responses": {"200": done, **refused},
    }
