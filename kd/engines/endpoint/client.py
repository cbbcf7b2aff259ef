"""Send chat completions to an OpenAI-compatible server: retries, rate limit, and one sentence for each fault.

requests and urllib3 do the work: urllib3 repeats a request after 408, 409, 429, 5xx, a broken connection and a timeout,
waits longer each time, and honours Retry-After. The key goes into a header and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd.base.errors import TransientError, UserError
from kd.base.urls import is_local
from kd.engines.endpoint.description import Endpoint

CONNECT_SECONDS = 20.0
CONNECT_RETRIES = 3  # of a connection that is refused: the server is not there, or starting
LONGEST_PAUSE = 600  # seconds that a Retry-After may ask for
MALFORMED_RETRIES = 3
PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_SHOWN = 300  # characters of a server's message


class Rejected(Exception):
    """The server rejects this request but may answer others; reason: `limit` (too long) or `refusal` (filtered)."""


@dataclass(frozen=True)
class Choice:
    """One answer: its text, the sum of its log-probabilities and their number (None if not given), its ending."""

    text: str | None
    ending: str = "stop"
    score: float | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """The answers to a request, and the tokens that are charged for it; None if the server does not count them."""

    choices: Sequence[Choice]
    prompt_tokens: int | None
    completion_tokens: int | None
    retries: int = 0


class Pace:
    """Space the requests of all threads evenly, and delay all of them if the server asks for a pause."""

    def __init__(self, per_minute: float | None) -> None:
        """Allow `per_minute` requests; None: any number."""
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may be sent."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Start no request during the next `seconds`."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Client:
    """A server and the key for it. Several threads may use it at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Read the key from the environment; nothing is sent yet. Raise UserError if no header can hold it."""
        self._endpoint = endpoint
        self._settings = endpoint.settings
        self._url = str(endpoint.settings.url).rstrip("/")
        self._key = os.environ.get(endpoint.settings.key, "").strip()
        if not re.fullmatch(r"[!-~]*", self._key):  # requests would repeat the key in its message
            raise UserError(
                f"The key in the environment variable {endpoint.settings.key} has a space, a line break or a letter "
                "beyond ASCII.",
                "Set it to the key alone.",
            )
        self._pace = Pace(endpoint.settings.requests_per_minute)
        self._local = threading.local()
        self.answered = False  # whether the server has ever answered a request: later faults may pass

    def complete(self, source: str, fields: Mapping[str, Any], count: int) -> Completion:
        """Ask for `count` translations of a source.

        Args:
            source: The text.
            fields: Further fields of the request: temperature, seed …
            count: Number of translations; a server may give fewer.

        Raises:
            Rejected: The server refuses this text.
            UserError: The server cannot be reached, refuses the key or does not have the model.
            TransientError: The server answered earlier requests but no longer answers.
        """
        body = {"model": self._endpoint.model, "messages": self._endpoint.messages(source), **fields}
        if count > 1:
            body["n"] = count
        if self._settings.logprobs:
            body["logprobs"] = True
        given = {**body, **self._settings.fields}
        body = {name: value for name, value in given.items() if value is not None}
        fault = ""
        for attempt in range(MALFORMED_RETRIES + 1):
            time.sleep(min(8, 2**attempt) - 1 if attempt else 0)
            answer = self._post(body)
            try:
                completion = _completion(answer)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                fault = f"{type(error).__name__}: {error}"
                continue
            self.answered = True
            return completion
        raise self._fault(f"{self._shown} does not answer with a chat completion ({fault[:80]}).")

    # --- one request -------------------------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return f"The server {self._url} ({self._endpoint.where})"

    def _post(self, body: Mapping[str, Any]) -> Any:
        """Send a request, repeated as often as allowed, and return the response if its status is 200."""
        import requests

        self._pace.wait()
        try:
            answer = self._session().post(
                f"{self._url}/chat/completions",
                json=body,
                timeout=(CONNECT_SECONDS, self._settings.timeout),
                allow_redirects=False,
                auth=self._authorize,
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from None
        if answer.status_code != 200:
            raise self._refusal(answer)
        return answer

    def _authorize(self, request: Any) -> Any:
        # In place of requests' own reading of ~/.netrc, which would replace the header.
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _session(self) -> Any:
        """Return the session of this thread: threads must not share a session."""
        found = getattr(self._local, "session", None)
        if found is None:
            import requests
            from requests.adapters import HTTPAdapter

            found = self._local.session = requests.Session()
            found.trust_env = not is_local(self._url)  # no proxy to this computer
            adapter = HTTPAdapter(max_retries=_retry(self._settings.retries, self._pace))
            found.mount("http://", adapter)
            found.mount("https://", adapter)
        return found

    # --- faults ------------------------------------------------------------------------------------------------------

    def _fault(self, problem: str, hint: str = "") -> UserError | TransientError:
        """Return a TransientError if the server has answered before, else a UserError."""
        if self.answered:
            return TransientError(f"{problem} Answers so far are kept; `kd run` continues from there.")
        return UserError(problem, hint or f"Correct {self._endpoint.where}.url, which mostly ends in /v1.")

    def _unreachable(self, error: BaseException) -> UserError | TransientError:
        if "read timed out" in str(error).lower() or "read timeout" in str(error).lower():
            hint = f"Raise {self._endpoint.where}.timeout."
            return self._fault(f"{self._shown} does not answer within {self._settings.timeout:g} seconds.", hint)
        reason = self._without_key(_innermost(error))
        return self._fault(
            f"{self._shown} cannot be reached: {reason}.", f"Start it, or correct {self._endpoint.where}.url."
        )

    def _refusal(self, answer: Any) -> Exception:
        """Return the error for a status other than 200."""
        status, code, told = answer.status_code, *_told(answer)
        told, low = self._without_key(told), f"{code} {told}".lower()
        name, model = self._settings.key, self._endpoint.model
        if status in (401, 403):  # the server's message may repeat a part of the key
            wrong = f"refuses the key in {name}" if self._key else f"requires a key, but {name} is not set"
            return UserError(
                f"{self._shown} {wrong} ({status}).",
                f"Set the environment variable {name}, or name another by {self._endpoint.where}.key.",
            )
        if "quota" in low or status == 402:
            return UserError(f"{self._shown} reports that the account has no credit left: {told}.", "Top it up.")
        if status in PASSING:
            again = f" after {self._settings.retries} retries" if self._settings.retries else ""
            return TransientError(f"{self._shown} still answers {status}{again}{': ' if told else ''}{told}.")
        if 300 <= status < 400:
            return UserError(f"{self._shown} redirects to another address.", f"Set {self._endpoint.where}.url to it.")
        if "context length" in low or "context_length" in low or "maximum context" in low or "context window" in low:
            return Rejected("limit")
        if "content_filter" in low or "content management" in low:
            return Rejected("refusal")
        if "model" in low and any(word in low for word in ("not found", "not_found", "does not exist", "unknown")):
            return UserError(f"{self._shown} has no model {model}.", self._models())
        if status == 404:
            return UserError(
                f"There is no {self._url}/chat/completions.",
                f"Correct {self._endpoint.where}.url, which mostly ends in /v1.",
            )
        return UserError(
            f"{self._shown} refuses the request ({status}): {told or 'it gives no reason'}.",
            f"If it refuses the field n, set {self._endpoint.where}.samples=1; to leave out another field, set "
            f"{self._endpoint.where}.fields={{NAME: null}}.",
        )

    def _models(self) -> str:
        """Return a hint that lists the server's models."""
        import requests

        try:
            answer = requests.get(f"{self._url}/models", timeout=10, auth=self._authorize, allow_redirects=False)
            names = [str(each["id"]) for each in answer.json()["data"]]
        except (requests.RequestException, ValueError, KeyError, TypeError):
            names = []
        return f"Set {self._endpoint.where}.model to one of {', '.join(names[:10])}." if names else (
            f"Correct {self._endpoint.where}.model."
        )  # fmt: skip

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _retry(count: int, pace: Pace) -> Any:
    """Return the rule by which urllib3 repeats requests; a pause that the server asks for holds all threads."""
    from urllib3.util.retry import Retry

    class Polite(Retry):
        def sleep_for_retry(self, response: Any) -> bool:
            pace.hold(self.get_retry_after(response) or 0.0)
            return bool(super().sleep_for_retry(response))

    return Polite(
        total=count,
        connect=min(count, CONNECT_RETRIES),
        status_forcelist=PASSING,
        allowed_methods=None,  # all: the same question may be asked twice
        backoff_factor=1.0,
        backoff_max=60,
        backoff_jitter=0.5,
        retry_after_max=LONGEST_PAUSE,
        raise_on_status=False,
        redirect=0,
    )


def _completion(answer: Any) -> Completion:
    """Read a response. Raise ValueError, KeyError, TypeError or AttributeError if it has another form."""
    if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        content = _joined(answer.content)
    else:
        content = json.loads(answer.content)  # UTF-8, whatever the header says
    choices = [_choice(each) for each in content["choices"]]
    if not choices:
        raise ValueError("no choices")
    usage = content.get("usage") or {}
    history = getattr(getattr(answer.raw, "retries", None), "history", ())
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Completion(
        choices,
        None if prompt is None else int(prompt),
        None if completion is None else int(completion),
        len(history),
    )


def _choice(entry: Mapping[str, Any]) -> Choice:
    text = entry["message"].get("content")
    if text is not None and not isinstance(text, str):
        raise TypeError("an answer is no text")
    tokens = (entry.get("logprobs") or {}).get("content") or []
    scores = [float(token["logprob"]) for token in tokens]
    ending = str(entry.get("finish_reason") or "stop")
    return Choice(text, ending, sum(scores) if scores else None, len(scores) or None)


def _joined(stream: bytes) -> dict[str, Any]:
    """Join the events of a stream into one answer: some servers stream although the request does not ask for it."""
    texts: dict[int, str] = {}
    endings: dict[int, str] = {}
    usage = None
    for line in stream.decode("utf-8").split("\n"):
        if not line.startswith("data:") or (data := line[5:].strip()) in ("", "[DONE]"):
            continue
        event = json.loads(data)
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            number = int(choice.get("index") or 0)
            texts[number] = texts.get(number, "") + (choice["delta"].get("content") or "")
            endings[number] = choice.get("finish_reason") or endings.get(number, "stop")
    choices = [{"message": {"content": text}, "finish_reason": endings[number]} for number, text in texts.items()]
    return {"choices": choices, "usage": usage}


def _told(answer: Any) -> tuple[str, str]:
    """Return the code and the message of an error in the form of OpenAI, of FastAPI, or of plain text."""
    try:
        content = answer.json()
        error = content.get("error") or content.get("detail") or content.get("message") or content
        code = error.get("code") or error.get("type") or "" if isinstance(error, dict) else ""
        text = error.get("message") or error if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        code, text = "", "" if "<html" in answer.text[:500].lower() else answer.text
    return str(code), " ".join(str(text).split())[:_SHOWN].rstrip(".")


def _innermost(error: BaseException) -> str:
    """Return the message of the innermost error in a chain of wrapped errors, without the object that it names."""
    while True:
        inner = getattr(error, "reason", None) or next(iter(error.args), None) or error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(error).rpartition(">: ")[2] or str(error)
    return text.rstrip(".") or type(error).__name__
