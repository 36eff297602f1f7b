"""The messages between the service and its worker processes.

An order is made here and is trusted. A reply comes from a process that has decoded somebody's picture: it is parsed as
JSON, and every field is checked.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from lkdn_deploy.hub.choice import NetworkChoice
from lkdn_deploy.runtime.settings import OutputSettings

MOST_REPLY = 1 << 16
"""Most bytes of the facts of a reply."""


@dataclass(frozen=True, slots=True)
class Order:
    """A picture that is to be upscaled.

    Attributes:
        choice: the network.
        settings: format and quality of the result.
    """

    choice: NetworkChoice
    settings: OutputSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the service.

    Attributes:
        pixels: most pixels of a picture.
        upload: most bytes of a picture's file.
        seconds: most seconds of a request: for its picture to arrive, for the work with the waiting before it, and for
            the result to be taken.
        waiting: most requests that wait for a worker.
    """

    pixels: int
    upload: int
    seconds: float
    waiting: int

    @property
    def result_bytes(self) -> int:
        """Most bytes of a result: 16 times the pixels, in RGBA of 16 bits, and some metadata."""
        return self.pixels * 16 * 8 + self.upload + (1 << 20)


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of an order.

    Attributes:
        status: HTTP status; 200 if there is a result.
        detail: what went wrong, and was expected.
        hint: what to do next.
        facts: of the result: ``format``, ``width``, ``height``, ``model``, ``scale``, ``backend``, ``exact``,
            ``seconds``, ``pixels`` of the source, and ``notes``.
    """

    status: int
    detail: str = ""
    hint: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return it as JSON, without notes if these are too long."""
        text = json.dumps(asdict(self)).encode()
        if len(text) > MOST_REPLY:
            short = self.facts | {"notes": []} if self.facts else {}
            text = json.dumps(asdict(self) | {"facts": short, "detail": self.detail[:4096], "hint": None}).encode()
        return text

    @classmethod
    def parse(cls, text: bytes) -> "Reply":
        """Read it.

        Raises:
            ValueError: if it is none.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or found.keys() != {"status", "detail", "hint", "facts"}:
            msg = "not a reply"
            raise ValueError(msg)
        reply = cls(**found)
        right = type(reply.status) is int and isinstance(reply.detail, str) and isinstance(reply.facts, dict)
        right = right and isinstance(reply.hint, str | None)
        if right and reply.status == 200:
            facts = reply.facts
            right = all(isinstance(facts.get(name), str) for name in ("format", "model", "backend"))
            right = right and all(type(facts.get(name)) is int for name in ("width", "height", "scale", "pixels"))
            right = right and type(facts.get("exact")) is bool and isinstance(facts.get("seconds"), int | float)
            notes = facts.get("notes")
            right = right and isinstance(notes, list) and all(isinstance(note, str) for note in notes)
        if not right:
            msg = "not a reply"
            raise ValueError(msg)
        return reply
