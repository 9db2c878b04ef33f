"""The answers that create nothing: 400 to 429, in every error shape the API is known to use."""

import json
import math
from dataclasses import dataclass
from dataclasses import field as member
from email.utils import formatdate
from typing import Any, Literal

from starlette.responses import Response

from flux_pipeline.emulator.inputs import InvalidField

ErrorShape = Literal["problem", "cog", "object"]
Hint = Literal["all", "header", "date", "body", "detail", "reset", "none"]


@dataclass(eq=False)
class Refusal(Exception):
    """Raised to answer with an error; nothing was created."""

    status: int
    title: str
    detail: str
    fields: tuple[InvalidField, ...] = ()
    more: dict[str, Any] = member(default_factory=dict)
    """Further members of the body."""
    headers: dict[str, str] = member(default_factory=dict)

    def response(self, shape: ErrorShape) -> Response:
        """The HTTP answer in one of the three shapes."""
        if shape == "object":
            body = error_object(self)
        elif shape == "cog":
            body = {"detail": self._details()}
        else:
            body = {"title": self.title, "detail": self.detail, "status": self.status}
            if self.fields:
                body["invalid_fields"] = [
                    {"type": field.kind, "field": field.field, "description": field.description}
                    for field in self.fields
                ]
        return json_response(body | self.more, self.status, self.headers)

    def _details(self) -> list[dict[str, Any]] | str:
        if not self.fields:
            return self.detail
        return [
            {
                "loc": ["body", *field.field.split(".")],
                "msg": field.description,
                "type": field.kind,
            }
            for field in self.fields
        ]


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON reply; lone surrogates of a prompt are escaped rather than refused."""
    return Response(json.dumps(body), status, headers, "application/json")


def error_object(refusal: Refusal) -> dict[str, Any]:
    """The aggregator's form of an error, which also comes under HTTP 200."""
    return {
        "error": {
            "message": refusal.detail,
            "type": refusal.title,
            "param": refusal.fields[0].field if refusal.fields else None,
            "code": str(refusal.status),
        }
    }


def unauthenticated() -> Refusal:
    """401: no key, or one that is not accepted."""
    detail = "You did not pass a valid authentication token"
    headers = {"WWW-Authenticate": "Bearer"}
    return Refusal(401, "Unauthenticated", detail, headers=headers)


def out_of_credit() -> Refusal:
    """402: the next prediction would cost more than is left."""
    detail = "You have insufficient credit to run this model. Go to billing to purchase credit."
    return Refusal(402, "Insufficient credit", detail)


def not_found() -> Refusal:
    """404: no such prediction, file or path."""
    return Refusal(404, "Not found", "The requested resource could not be found.")


def forbidden() -> Refusal:
    """403: the file is not for this one."""
    return Refusal(403, "Forbidden", "Access denied.")


def channel_refused() -> Refusal:
    """400: the aggregator's upstream channel doesn't want this request."""
    return Refusal(400, "invalid_request_error", "The channel refused this request.")


def not_cancelable() -> Refusal:
    """422: the prediction has already ended."""
    return Refusal(422, "Not cancelable", "The prediction has already ended.")


def malformed(detail: str) -> Refusal:
    """400: the request is no JSON object, or a header or query value can't be read."""
    return Refusal(400, "Bad request", detail)


def invalid(fields: tuple[InvalidField, ...]) -> Refusal:
    """422: every value out of range, at once."""
    detail = "".join(f"- {field.field}: {field.description}\n" for field in fields)
    return Refusal(422, "Input validation failed", detail, fields)


def throttled(wait_seconds: float, hint: Hint, now: float) -> Refusal:
    """429, with the time to wait in the place that ``hint`` names; ``now`` dates the HTTP date."""
    seconds = max(1, math.ceil(wait_seconds))
    detail = "Request was throttled."
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if hint in ("all", "detail"):
        detail += f" Your rate limit resets in ~{seconds}s."
    if hint in ("all", "body"):
        more["retry_after"] = seconds
    if hint in ("all", "header"):
        headers["Retry-After"] = str(seconds)
    if hint == "date":
        headers["Retry-After"] = formatdate(now + seconds, usegmt=True)
    if hint in ("all", "reset"):
        headers["ratelimit-reset"] = str(seconds)
    return Refusal(429, "Too many requests", detail, more=more, headers=headers)
