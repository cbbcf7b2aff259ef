"""Settings of a teacher behind an OpenAI-compatible server: vLLM, llama.cpp, Ollama, a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kd.recipe.schema.marks import setting

PROMPT = (
    "Translate the following text from {source_language} into {target_language}. "
    "Answer with the translation only.\n\n{examples}{source_language}: {source}\n{target_language}:"
)
EXAMPLE = "{source_language}: {source}\n{target_language}: {target}\n\n"
KEY = "OPENAI_API_KEY"


@dataclass
class EndpointConfig:
    """The keys of a teacher with `engine: endpoint`."""

    url: str | None = setting(
        "endpoint: address of the server up to /v1; a change of address alone repeats no work.",
        None,
        transient=True,
    )
    start: str | None = setting(
        "endpoint: command by which each task that uses this teacher starts its own server; {model} and {port}, a free "
        "port, are filled in here and in the url; null: the server is already running.",
        None,
        transient=True,
    )
    start_minutes: float = setting(
        "endpoint: longest time between the start of the server and its first answer.",
        30.0,
        unit="minutes",
        above=0,
        transient=True,
    )
    prompt: str = setting(
        "endpoint: the user's message; {source}, {source_language}, {target_language} and {examples} are filled in.",
        PROMPT,
    )
    system: str | None = setting("endpoint: the system message, with the languages; null: none.", None)
    examples: int = setting("endpoint: pairs of dev shown in the prompt.", 0, unit="pairs", at_least=0)
    example: str = setting("endpoint: form of one such pair, with {source}, {target} and the languages.", EXAMPLE)
    logprobs: bool = setting(
        "endpoint: ask for log-probabilities, whose sum is the score; without them all scores are 0.", False
    )
    fields: dict[str, Any] = setting(
        "endpoint: further fields of each request; null takes one out: {max_completion_tokens: 512, max_tokens: null}.",
        factory=dict,
    )
    key: str = setting("endpoint: name of the environment variable that holds the key.", KEY, transient=True)
    samples: int | None = setting(
        "endpoint: samples of one request; null: all; 1 for servers without the parameter n.",
        None,
        unit="samples",
        at_least=1,
        transient=True,
    )
    concurrency: int = setting(
        "endpoint: concurrent requests of a task.", 8, unit="requests", at_least=1, transient=True
    )
    requests_per_minute: float | None = setting(
        "endpoint: largest number of requests of a task per minute; null: no limit.", None, above=0, transient=True
    )
    timeout: float = setting("endpoint: seconds to wait for an answer.", 120.0, unit="seconds", above=0, transient=True)
    retries: int = setting(
        "endpoint: retries of a request after 429, 5xx or a timeout, with growing pauses.",
        6,
        at_least=0,
        transient=True,
    )
    max_unusable: float = setting(
        "endpoint: largest share of a shard's sources without a usable answer; beyond it the task stops.",
        0.05,
        at_least=0,
        at_most=1,
        transient=True,
    )
    input_price: float = setting(
        "endpoint: price of a million tokens of prompts, in `currency`.", 0.0, at_least=0, transient=True
    )
    output_price: float = setting(
        "endpoint: price of a million tokens of answers, in `currency`.", 0.0, at_least=0, transient=True
    )
    currency: str = setting("endpoint: currency of the prices.", "USD", transient=True)
