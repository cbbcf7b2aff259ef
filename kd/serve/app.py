"""The server's routes: LibreTranslate's API, the models, health, metrics and the page."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from kd.corpora.sentence_ends import sentences
from kd.engines.translator import Translation
from kd.models.language_names import name_of
from kd.serve.limits import Limits, Refused
from kd.serve.markup import Parsed, parsers
from kd.serve.metrics import TYPE, Measured, Metrics
from kd.serve.models import AUTO, Direction, Models
from kd.serve.requests import Body, read

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
DETECTED = 500  # characters that language detection reads


class Server:
    """Answer requests."""

    def __init__(self, models: Models, metrics: Metrics, limits: Limits, *, beam: int, key: str | None) -> None:
        self._models, self._metrics, self._limits = models, metrics, limits
        self._beam, self._key = beam, key

    def routes(self) -> list[Route]:
        """Return the routes."""
        files = [Route(path, partial(_file, name)) for path, name in FILES.items()]
        return [
            Route("/translate", self._guarded(self.translate), methods=["POST"]),
            Route("/detect", self._guarded(self.detect), methods=["POST"]),
            Route("/languages", self.languages),
            Route("/models", self.models),
            Route("/frontend/settings", self.settings),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            *files,
        ]

    def _guarded(self, answer: Callable[[Body], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        """Read a request, check its key, and give up if it takes too long or its client disconnects."""

        async def endpoint(request: Request) -> Response:
            body = await read(request, self._limits)
            self._check_key(request, body)
            work = asyncio.ensure_future(answer(body))
            left = asyncio.ensure_future(_disconnected(request))
            try:
                await asyncio.wait({work, left}, timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return JSONResponse(work.result())
                if left.done():
                    raise Refused(499, "The client has disconnected.")
                raise Refused(504, f"The translation took more than {self._limits.seconds:g} seconds.")
            finally:
                left.cancel()
                work.cancel()

        return endpoint

    def _check_key(self, request: Request, body: Body) -> None:
        if self._key is None:
            return
        given = body.api_key or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            raise Refused(401, "This server requires an API key (api_key).")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._key.encode()):
            raise Refused(403, "Invalid API key")

    async def translate(self, body: Body) -> dict[str, Any]:
        """Translate one text or several."""
        if not body.target:
            raise Refused(400, "Invalid request: missing target parameter")
        start = time.perf_counter()
        texts = body.texts
        detected = [self._models.detect(text[:DETECTED], body.target) for text in texts] \
            if body.origin == AUTO else []  # fmt: skip
        sources = [code for code, _ in detected] or [body.origin] * len(texts)
        directions = [self._models.find(source, body.target, body.model) for source in sources]
        parsed = [parsers[body.format or "text"](text) for text in texts]
        extra = min(body.alternatives or 0, self._beam - 1)
        found = await _translated(directions, parsed, 1 + extra)
        count = sum(
            len(sentences(line, direction.source))
            for direction, each in zip(directions, parsed, strict=True)
            for line in each.texts
            if line.strip()
        )
        answer: dict[str, Any] = {"translatedText": [each[0] for each in found]}
        if extra:
            answer["alternatives"] = [each[1:] for each in found]
        if detected:
            answer["detectedLanguage"] = [{"confidence": score, "language": code} for code, score in detected]
        if isinstance(body.q, str):
            answer = {name: values[0] for name, values in answer.items()}
        seconds = time.perf_counter() - start
        used = list(dict.fromkeys(each.model for each in directions))
        return answer | {"kd": {"models": used, "seconds": round(seconds, 6), "sentences": count}}

    async def detect(self, body: Body) -> list[dict[str, Any]]:
        """Detect the language of a text."""
        code, score = self._models.detect(" ".join(body.texts)[:DETECTED])
        return [{"confidence": score, "language": code}]

    async def languages(self, request: Request) -> Response:
        """List the source languages, each with its targets."""
        return JSONResponse(
            [
                {"code": code, "name": name_of(code), "targets": targets}
                for code, targets in self._models.targets.items()
            ]
        )

    async def models(self, request: Request) -> Response:
        """List the models with their directions."""
        return JSONResponse(
            [
                {"name": each.model, "source": each.source, "target": each.target, **each.facts}
                for each in self._models.directions
            ]
        )

    async def settings(self, request: Request) -> Response:
        """Describe the server in the form that LibreTranslate's page expects."""
        source, targets = next(iter(self._models.targets.items()))
        return JSONResponse(
            {
                "apiKeys": self._key is not None,
                "keyRequired": self._key is not None,
                "charLimit": self._limits.characters,
                "frontendTimeout": 500,
                "language": {
                    "source": {"code": source, "name": name_of(source)},
                    "target": {"code": targets[0], "name": name_of(targets[0])},
                },
                "filesTranslation": False,
                "suggestions": False,
                "supportedFilesFormat": [],
            }
        )

    async def health(self, request: Request) -> Response:
        """Answer as long as the server accepts requests."""
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """Return the figures for Prometheus."""
        return Response(self._metrics.page(), headers={"content-type": TYPE})


def application(
    models: Models, metrics: Metrics, limits: Limits, *, beam: int, key: str | None, origins: Sequence[str]
) -> Starlette:
    """Make the ASGI application. `origins`: web pages of other hosts that browsers allow to use it."""
    server = Server(models, metrics, limits, beam=beam, key=key)
    routes = server.routes()
    metrics.watch(lambda: models.waiting)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(models.close)

    middleware = [Middleware(Measured, metrics=metrics, paths=frozenset(route.path for route in routes))]
    if origins:
        middleware.append(
            Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])
        )
    errors: dict[Any, Any] = {Refused: _refused, HTTPException: _failed, Exception: _broken}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=errors, lifespan=lifespan)


async def _translated(directions: Sequence[Direction], parsed: Sequence[Parsed], nbest: int) -> list[list[str]]:
    """Return the best translations of each text. Texts of one direction are queued together as one request."""
    places: dict[int, list[int]] = {}
    for place, each in enumerate(directions):
        places.setdefault(id(each), []).append(place)
    works = []
    for numbers in places.values():
        lines = [line for number in numbers for line in parsed[number].texts]
        works.append(directions[numbers[0]].batcher.translate(directions[numbers[0]].translator, lines, nbest))
    found: list[list[str]] = [[] for _ in parsed]
    for numbers, lists in zip(places.values(), await _gathered(works), strict=True):
        rest = iter(lists)
        for number in numbers:
            text = parsed[number]
            ranked = list(islice(rest, len(text.texts)))
            found[number] = [
                text.joined([line[min(rank, len(line) - 1)].text for line in ranked]) for rank in range(_ranks(ranked))
            ]
    return found


async def _gathered(works: Sequence[Coroutine[Any, Any, list[list[Translation]]]]) -> list[list[list[Translation]]]:
    """Wait for all results; if one fails, cancel the others, so that their lines leave the queue."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _ranks(lines: Sequence[Sequence[Translation]]) -> int:
    return max(map(len, lines), default=1)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _file(name: str, request: Request) -> Response:
    return FileResponse(PAGE / name, headers={"cache-control": "no-cache"})


async def _refused(request: Request, error: Refused) -> Response:
    headers = {"retry-after": "1"} if error.status == 503 else {}
    if error.status in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    return JSONResponse({"error": error.sentence}, error.status, headers)


async def _failed(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The server failed. See its log."}, 500)
