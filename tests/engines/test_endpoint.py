"""A teacher behind a server: requests, retries, limits, messages and lists, with a server that misbehaves."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import TransientError, UserError
from kd.engines.endpoint import client
from kd.engines.endpoint.description import Endpoint, check, draw_examples
from kd.engines.endpoint.journal import Journal
from kd.engines.endpoint.starting import running
from kd.engines.endpoint.translator import Drawing, EndpointTranslator
from kd.engines.loading import Decoding, load
from kd.models.folder import ModelFolder
from kd.recipe.schema import EndpointConfig
from tests.chat_servers import ChatServer

PROMPT = "Translate {source_language} to {target_language}.\n{examples}Source: {source}\nTarget:"
KEY = "sk-secret-123"
LOCAL = {"url": "http://localhost:{port}/v1"}
SOURCES = ["null eins zwei", "drei vier", "acht neun zehn"]
SAMPLES = Drawing(seed=3)


@pytest.fixture(autouse=True)
def no_key_and_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("urllib3.util.retry.Retry._sleep_backoff", lambda self: None)
    monkeypatch.setattr(client, "MALFORMED_RETRIES", 1)


@pytest.fixture
def endpoint(chat: ChatServer) -> Endpoint:
    settings = EndpointConfig(url=chat.url, prompt=PROMPT, timeout=5.0, retries=3, concurrency=2)
    return Endpoint("llm", "tiny", settings, ("de", "en"))


def changed(endpoint: Endpoint, **settings: Any) -> Endpoint:
    return replace(endpoint, settings=replace(endpoint.settings, **settings))


def texts(endpoint: Endpoint, sources: list[str] = SOURCES, journal: Journal | None = None, **options: Any) -> Any:
    lists = EndpointTranslator(endpoint, **options).translate(sources, journal=journal)
    return [[each.text for each in found] for found in lists]


def test_a_greedy_request_has_the_prompt_and_nothing_that_servers_may_not_know(
    chat: ChatServer,
    endpoint: Endpoint,
) -> None:
    assert texts(endpoint, max_pieces=40) == [[each.upper()] for each in SOURCES]
    assert chat.asked[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Translate German to English.\nSource: null eins zwei\nTarget:"}],
        "max_tokens": 40,
        "temperature": 0,
    }
    assert "Authorization" not in chat.headers[0]


def test_braces_of_a_source_are_no_places_of_the_prompt(chat: ChatServer, endpoint: Endpoint) -> None:
    assert texts(endpoint, ["press {source} {0}"]) == [["PRESS {SOURCE} {0}"]]


def test_samples_are_drawn_by_the_keys_of_decode(chat: ChatServer, endpoint: Endpoint) -> None:
    drawing = Drawing(seed=3, temperature=0.7, top_p=0.9, top=40)
    assert [len(found) for found in texts(endpoint, nbest=4, drawing=drawing)] == [4, 4, 4]
    request = chat.asked[0]
    assert {name: request[name] for name in ("n", "temperature", "top_p", "top_k")} == {
        "n": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 40,
    }  # fmt: skip
    assert len({each["seed"] for each in chat.asked}) == 3
    texts(endpoint, nbest=4, drawing=drawing)
    assert sorted(each["seed"] for each in chat.asked[3:]) == sorted(each["seed"] for each in chat.asked[:3])


@pytest.mark.parametrize("samples", [None, 1])
def test_a_server_that_gives_one_sample_is_asked_again(
    chat: ChatServer,
    endpoint: Endpoint,
    samples: int | None,
) -> None:
    chat.knows_n = False
    assert [len(found) for found in texts(changed(endpoint, samples=samples), nbest=3, drawing=SAMPLES)] == [3, 3, 3]
    assert len(chat.asked) == 9
    assert len({each["seed"] for each in chat.asked}) == 9
    assert any("n" in each for each in chat.asked) == (samples is None)


def test_further_fields_are_sent_and_null_takes_one_out(chat: ChatServer, endpoint: Endpoint) -> None:
    texts(changed(endpoint, fields={"max_tokens": None, "max_completion_tokens": 9}), SOURCES[:1])
    assert "max_tokens" not in chat.asked[0]
    assert chat.asked[0]["max_completion_tokens"] == 9


def test_scores_are_mean_log_probabilities_and_order_the_list(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.logprobs, chat.answer = True, lambda source, _: ["a", "b"]
    translator = EndpointTranslator(changed(endpoint, logprobs=True), nbest=2, drawing=SAMPLES)
    [found] = translator.translate(SOURCES[:1])
    assert [(each.text, each.score) for each in found] == [("a", -0.5), ("b", -1.0)]  # 4 tokens of that
    without = EndpointTranslator(endpoint, nbest=2, drawing=SAMPLES)
    assert [each.score for each in without.translate(SOURCES[:1])[0]] == [0.0, 0.0]


# --- faults ----------------------------------------------------------------------------------------------------------


def test_passing_faults_are_retried_and_counted(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [429, 500, 503]
    journal = Journal()
    assert texts(endpoint, SOURCES[:1], journal) == [["NULL EINS ZWEI"]]
    assert len(chat.asked) == 4
    assert journal.usage.retries == 3


def test_retry_after_is_honoured_by_all_threads(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [None, (429, {"Retry-After": "1"})]
    texts(endpoint, SOURCES)
    limited = chat.moments[1]
    under_way = [moment for moment in chat.moments[2:] if moment - limited < 0.3]  # sent before the answer came
    assert len(under_way) <= 1
    assert all(moment - limited > 0.9 for moment in chat.moments[2:] if moment not in under_way)


def test_a_rate_limit_spaces_requests(chat: ChatServer, endpoint: Endpoint) -> None:
    texts(changed(endpoint, requests_per_minute=300), SOURCES)  # one in 0.2 seconds
    gaps = [later - earlier for earlier, later in zip(chat.moments, chat.moments[1:], strict=False)]
    assert min(gaps) > 0.15


def test_concurrency_is_bounded(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [0.05] * 12
    texts(changed(endpoint, concurrency=3), [f"eins {number}" for number in range(12)])
    assert 2 <= chat.most_at_once <= 3


def test_malformed_json_is_asked_for_again(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [b'{"choices": [{"mess']
    assert texts(endpoint, SOURCES[:1]) == [["NULL EINS ZWEI"]]
    chat.faults = [b"{}"] * 2
    with pytest.raises(UserError, match="does not answer with a chat completion"):
        texts(endpoint, SOURCES[:1])


def test_a_stream_that_nobody_asked_for_is_joined(chat: ChatServer, endpoint: Endpoint) -> None:
    events = [{"delta": {"role": "assistant"}}, {"delta": {"content": "one "}}, {"delta": {"content": "two"}},
              {"delta": {}, "finish_reason": "stop"}]  # fmt: skip
    lines = [f"data: {json.dumps({'choices': [{'index': 0, **each}]})}\n\n" for each in events]
    chat.faults = ["".join([*lines, "data: [DONE]\n\n"]).encode()]
    journal = Journal()
    assert texts(endpoint, SOURCES[:1], journal) == [["one two"]]
    assert journal.usage.uncounted == 1


def test_a_server_that_is_not_there_is_one_sentence(endpoint: Endpoint) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = changed(endpoint, url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(
            UserError, match=r"^The server http.* \(teachers\.llm\) cannot be reached: .*refused"
        ) as error:
            texts(nobody)
    assert error.value.hint == "Start it, or correct teachers.llm.url."


def test_a_slow_server_is_one_sentence(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [0.6, 0.6]
    with pytest.raises(UserError, match=r"does not answer within 0\.2 seconds\. Raise teachers\.llm\.timeout"):
        texts(changed(endpoint, timeout=0.2, retries=1), SOURCES[:1])


def test_faults_after_the_first_answer_may_pass(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.faults = [None, *[500] * 20]
    with pytest.raises(TransientError, match=r"still answers 500 after 3 retries: an error of the server"):
        texts(endpoint)


def test_a_wrong_key_is_one_sentence_without_the_key(
    chat: ChatServer,
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat.key = "another"
    with pytest.raises(UserError, match=r"requires a key, but OPENAI_API_KEY is not set \(401\)"):
        texts(endpoint)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(UserError, match=r"refuses the key in OPENAI_API_KEY \(401\)") as error:
        texts(endpoint)
    assert KEY not in str(error.value)
    assert len(chat.asked) == 2  # one request each, not one of each thread
    chat.key = KEY
    assert texts(endpoint, SOURCES[:1]) == [["NULL EINS ZWEI"]]
    monkeypatch.setenv("OTHER", "another")
    chat.key = "another"
    assert texts(changed(endpoint, key="OTHER"), SOURCES[:1]) == [["NULL EINS ZWEI"]]


def test_an_unknown_model_is_one_sentence_with_those_that_exist(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.models = ("big", "small")
    with pytest.raises(UserError, match=r"has no model tiny\. Set teachers\.llm\.model to one of big, small\."):
        texts(endpoint)


def test_another_path_is_one_sentence(chat: ChatServer, endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match=r"There is no http.*/v2/chat/completions\. Correct teachers\.llm\.url"):
        texts(changed(endpoint, url=chat.url.replace("/v1", "/v2")))


def test_a_refused_field_is_one_sentence(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.answer = lambda *_: (422, {"detail": "Unused fields in the request: {'n'}"})
    with pytest.raises(UserError, match=r"refuses the request \(422\): Unused fields .* teachers\.llm\.samples=1"):
        texts(endpoint, nbest=2, drawing=SAMPLES)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_sources_without_a_usable_answer_are_counted_and_bounded(chat: ChatServer, endpoint: Endpoint) -> None:
    chat.answer = lambda source, _: "I cannot translate this text." if "9" in source else f'"{source.upper()}"'
    sources = [f"wort {number}" for number in range(40)]
    translator = EndpointTranslator(endpoint)
    lists = translator.translate(["", *sources])
    assert [(each.text, each.score) for each in lists[0]] == [("", 0.0)]
    assert [(each.text, each.score) for each in lists[10]] == [("", float("-inf"))]
    assert lists[1][0].text == "WORT 0"
    assert translator.counts == {
        "blank": 1,
        "answers left out: refusal": 4,
        "answers with quotes removed": 36,
        "sources without a usable answer": 4,
    }
    chat.answer = lambda *_: "I cannot translate this text."
    with pytest.raises(UserError, match=r"21 sources .* \(refusal 21\), more than teachers\.llm\.max_unusable=0\.05"):
        texts(endpoint, sources)


def test_a_text_that_the_server_refuses_does_not_stop_the_others(chat: ChatServer, endpoint: Endpoint) -> None:
    too_long = {"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}}
    chat.answer = lambda source, _: (400, too_long) if source == SOURCES[1] else source
    translator = EndpointTranslator(endpoint)
    assert [found[0].text for found in translator.translate(SOURCES)] == [SOURCES[0], "", SOURCES[2]]


def test_no_answer_is_paid_for_twice(chat: ChatServer, endpoint: Endpoint, tmp_path: Path) -> None:
    sources = [f"wort {number}" for number in range(10)]
    lock, seen = threading.Lock(), []

    def answer(source: str, _: Any) -> Any:
        with lock:
            seen.append(source)
            return source.upper() if len(seen) <= 6 else (500, {})

    chat.answer = answer
    path = tmp_path / "00000.answers.jsonl"
    with pytest.raises(TransientError):
        texts(changed(endpoint, retries=0), sources, Journal(path))
    with path.open("ab") as file:
        file.write(b'\n{"source": "cut o')
    paid = set(seen[:6])
    chat.answer = lambda source, _: source.upper()
    asked = len(chat.asked)
    journal = Journal(path)
    assert texts(endpoint, sources, journal) == [[source.upper()] for source in sources]
    again = [request["messages"][0]["content"] for request in chat.asked[asked:]]
    assert len(again) == 4
    assert not [source for source in paid if any(f"Source: {source}\n" in prompt for prompt in again)]
    assert journal.usage.requests == 10
    assert journal.usage.completion_tokens == sum(map(len, sources))
    copied = Journal(tmp_path / "other.jsonl", [path])
    texts(endpoint, sources, copied)
    assert len(chat.asked) == asked + 4
    assert copied.usage == journal.usage


def test_a_request_under_way_when_another_fails_is_awaited_and_kept(
    chat: ChatServer,
    endpoint: Endpoint,
    tmp_path: Path,
) -> None:
    slow_has_come = threading.Event()

    def answer(source: str, _: Any) -> Any:
        if source == "slow":
            slow_has_come.set()
            time.sleep(0.5)
        elif source == "failing":
            assert slow_has_come.wait(10)
            return 500, {}
        return source.upper()

    chat.answer = answer
    journal = Journal(tmp_path / "00000.answers.jsonl")
    with pytest.raises(TransientError):
        texts(changed(endpoint, retries=0), ["first", "slow", "failing", *SOURCES], journal)
    assert [choice.text for choice in journal.of("slow").choices] == ["SLOW"]
    assert sorted(request["messages"][0]["content"].split()[-2] for request in chat.asked) == [
        "failing",
        "first",
        "slow",
    ]


# --- description -----------------------------------------------------------------------------------------------------


def test_a_folder_keeps_the_prompt_and_takes_the_address_of_now(
    chat: ChatServer,
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shown = replace(endpoint, examples=(("eins", "one"), ("zwei {source}", "two")))
    shown = changed(shown, example="{source} = {target}\n", system="To {target_language}")
    shown.write(tmp_path)
    assert KEY not in (tmp_path / "model.json").read_text("utf-8")
    assert Endpoint.open(tmp_path) == shown
    moved = Endpoint.open(tmp_path, {"url": "http://elsewhere/v1", "prompt": "another", "timeout": 9.0})
    assert (moved.settings.url, moved.settings.prompt, moved.settings.timeout) == ("http://elsewhere/v1", PROMPT, 9.0)
    assert ModelFolder.open(tmp_path).languages.target == ("en",)
    assert load([tmp_path], Decoding(4, 30, 100, "en"), threads=1, device="cpu")(["drei"]) == ["DREI"]
    assert chat.asked[0]["messages"] == [
        {"role": "system", "content": "To English"},
        {
            "role": "user",
            "content": "Translate German to English.\neins = one\nzwei {source} = two\nSource: drei\nTarget:",
        },
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": None}, r"teachers\.a\.url is not set\. Set it: teachers\.a\.url=http://localhost:8000/v1"),
        ({"url": "localhost:8000"}, r"teachers\.a\.url is localhost:8000"),
        ({"start": "vllm serve {model}"}, r"Set teachers\.a\.url=http://localhost:\{port\}/v1"),
        ({"url": "http://localhost:{port}/v1"}, r"teachers\.a\.start is not set"),
        ({"url": "http://me:pw@host/v1"}, r"holds a password .* environment variable OPENAI_API_KEY"),
        ({"url": "http://host/v1?api_key=x"}, r"holds a password or a key"),
        ({"key": KEY}, r"teachers\.a\.key is not the name of an environment variable"),
        ({"prompt": "Translate."}, r"teachers\.a\.prompt has no \{source\}"),
        ({"prompt": "{source} {to}"}, r"teachers\.a\.prompt has \{to\}, which is not known"),
        ({"prompt": "{source}", "examples": 2}, r"examples is 2, but the prompt has no \{examples\}"),
        ({"example": "{source}"}, r"teachers\.a\.example has no \{target\}"),
        ({"fields": {"n": 3}}, r"teachers\.a\.fields has n, which kd sets"),
        ({"fields": {"api_key": KEY}}, r"teachers\.a\.fields has api_key, which may be a secret"),
        ({**LOCAL, "start": f"vllm serve --api-key {KEY}"}, r"teachers\.a\.start has --api-key, which may be a secret"),
        (
            {**LOCAL, "start": f"env HF_TOKEN={KEY} vllm serve"},
            r"teachers\.a\.start has HF_TOKEN, which may be a secret",
        ),
        ({**LOCAL, "start": "vllm serve 'x"}, r"teachers\.a\.start is not a command: No closing quotation"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check("a", "model", EndpointConfig(**{"url": "http://host/v1", **settings}))
    assert KEY not in str(error.value)


@pytest.mark.parametrize("key", [f"{KEY}\nsk-2", f"{KEY} 2", f"{KEY}\u0142"])
def test_a_key_that_no_header_can_hold_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """requests would repeat it in its message."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match=r"The key in the environment variable OPENAI_API_KEY has a space") as error:
        client.Client(Endpoint("a", "model", EndpointConfig(url="http://host/v1"), ("de", "en")))
    assert KEY not in str(error.value)


def test_examples_are_spread_over_dev_and_short(chat: ChatServer) -> None:
    pairs: list[tuple[str, str]] = [(f"s{number}", f"t{number}") for number in range(10)]
    assert draw_examples([*pairs, ("x" * 500, "y"), ("", "z")], 3) == (("s0", "t0"), ("s3", "t3"), ("s6", "t6"))
    with pytest.raises(UserError, match="dev has 10 pairs that can be examples, but 11 are needed"):
        draw_examples(pairs, 11)


# --- a server of the task's own --------------------------------------------------------------------------------------


SERVER = """
import sys
from tests.chat_servers import chat_server
with chat_server(port=int(sys.argv[1])) as server:
    print(server.url, sys.argv[2], flush=True)
    sys.stdin.read()
    import time
    time.sleep(600)
"""


def test_a_server_is_started_and_ended_with_the_work(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(SERVER, "utf-8")
    command = f"env PYTHONPATH={Path.cwd()} {sys.executable} {script} {{port}} {{model}}"
    settings = EndpointConfig(url="http://localhost:{port}/v1", start=command, prompt=PROMPT, concurrency=1)
    with running(Endpoint("llm", "tiny", settings, ("de", "en"))) as ready:
        assert texts(ready) == [[each.upper()] for each in SOURCES]
    with pytest.raises(UserError, match="cannot be reached"):
        texts(changed(ready, retries=0))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/nowhere/vllm serve", r"/nowhere/vllm cannot be started: No such file .* Correct teachers\.llm\.start"),
        ("false {port}", r"The server of teachers\.llm ended with status 1 before it answered"),
        ("sleep 60", r"does not answer at http://localhost:\d+/v1 after 0\.005 minutes"),
    ],
)
def test_a_server_that_does_not_start_is_one_sentence(command: str, message: str) -> None:
    settings = EndpointConfig(url="http://localhost:{port}/v1", start=command, start_minutes=0.005)
    with pytest.raises(UserError, match=message), running(Endpoint("llm", "tiny", settings, ("de", "en"))):
        pass
