"""Read requests as LibreTranslate's clients send them: JSON, forms of both kinds, or a query string."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from kd.serve.limits import Limits, Refused
from kd.serve.models import AUTO

JSON, FORMS = "application/json", ("application/x-www-form-urlencoded", "multipart/form-data")
FIELDS = 20  # of a form beside its texts


class Body(msgspec.Struct):
    """The fields of a request; others are ignored.

    Attributes:
        q: One text or several.
        source: The code of the source language, or `auto`.
        target: The code of the target language.
        format: `text`, or `html`, in which only the text is translated.
        alternatives: Number of additional translations of each line.
        api_key: The key, if the server requires one.
        model: The name of a model; the first of the direction by default.
    """

    q: str | list[str] | None = None
    source: str | None = None
    target: str | None = None
    format: str | None = None
    alternatives: int | None = None
    api_key: str | None = None
    model: str | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.q] if isinstance(self.q, str) else list(self.q or ())

    @property
    def origin(self) -> str:
        """The code of the source language."""
        return self.source or AUTO


async def read(request: Request, limits: Limits) -> Body:
    """Read and check the body of a request.

    Raises:
        Refused: The request is too large, too slow, or malformed.
    """
    content = await _content(request, limits)
    type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if type_ in FORMS:
        found = _of_fields(await _form(request, content, limits))
    elif type_ == JSON or content[:1] == b"{":
        found = _of_json(content)
    elif content:
        raise Refused(415, f"Send {JSON}, or a form.")
    else:
        found = _of_fields(request.query_params)
    _check(found, limits)
    return found


async def _content(request: Request, limits: Limits) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 18 or int(declared) > limits.body:
        raise Refused(413, f"A request has at most {limits.body} bytes.")
    content = bytearray()
    try:
        async with asyncio.timeout(limits.reading):
            async for part in request.stream():
                content += part
                if len(content) > limits.body:
                    raise Refused(413, f"A request has at most {limits.body} bytes.")
    except TimeoutError:
        raise Refused(408, f"The request did not arrive within {limits.reading:g} seconds.") from None
    except ClientDisconnect:
        raise Refused(400, "The request is incomplete.") from None
    return bytes(content)


async def _form(request: Request, content: bytes, limits: Limits) -> FormData:
    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    again = Request(request.scope, receive)
    try:
        return await again.form(max_files=0, max_fields=limits.texts + FIELDS, max_part_size=limits.body)
    except HTTPException as error:
        raise Refused(400, f"Invalid form: {error.detail}") from None


def _of_fields(fields: FormData | QueryParams) -> Body:
    values: dict[str, Any] = {name: value for name, value in fields.multi_items() if isinstance(value, str)}
    texts = [value for value in fields.getlist("q") if isinstance(value, str)]
    values["q"] = texts[0] if len(texts) == 1 else texts or None
    try:
        return msgspec.convert(values, Body, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise Refused(400, f"Invalid request: {error}") from None


def _of_json(content: bytes) -> Body:
    try:
        return msgspec.json.decode(content, type=Body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(400, f"Invalid request: {error}") from None


def _check(body: Body, limits: Limits) -> None:
    if body.q is None:
        raise Refused(400, "Invalid request: missing q parameter")
    texts = body.texts
    letters = sum(map(len, texts))
    if letters > limits.characters:
        raise Refused(413, f"Invalid request: request ({letters}) exceeds text limit ({limits.characters})")
    if len(texts) > limits.texts:
        raise Refused(413, f"Invalid request: {len(texts)} texts exceed the limit ({limits.texts})")
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        raise Refused(400, "Invalid request: q is not Unicode text: it has an unpaired surrogate")
    if body.format not in (None, "text", "html"):
        raise Refused(400, f"{ascii(body.format)[:40]} format is not supported")
    if body.alternatives is not None and body.alternatives < 0:
        raise Refused(400, "Invalid request: alternatives is negative")
