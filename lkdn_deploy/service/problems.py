"""Refusals, and the problem details (RFC 9457) in which a client reads them."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "Name of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was expected, and what came."},
        "hint": {"type": "string", "description": "What to do next."},
    },
}
"""The JSON schema of the details."""

_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # as RFC 9110 has them, and Python from 3.13 on


class Problem(Exception):  # noqa: N818 - it is the name of RFC 9457
    """A request that is refused.

    Attributes:
        status: HTTP status.
        detail: what was expected, and what came.
        hint: what to do next.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.headers = status, detail, hint, dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        title = _TITLES.get(self.status) or HTTPStatus(self.status).phrase
        body = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        if self.hint:
            body["hint"] = self.hint
        content = json.dumps(body, ensure_ascii=True).encode()
        return Response(content, self.status, self.headers, MEDIA_TYPE)
