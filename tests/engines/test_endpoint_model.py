"""A real language model behind a server translates as transformers' own greedy decoder, and its samples are lists."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kd.engines.endpoint.description import Endpoint
from kd.engines.endpoint.journal import Journal
from kd.engines.endpoint.translator import Drawing, EndpointTranslator
from kd.recipe.schema import EndpointConfig
from tests.chat_model import ChatModel, chat_model, model_server, sentences

LONGEST = 12
RELEASED = os.environ.get("KD_TEST_CHAT_SERVER") == "transformers"  # it gives one answer, and counts no tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return chat_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def endpoint(model: ChatModel) -> Iterator[Endpoint]:
    with model_server(model) as (url, name):
        settings = EndpointConfig(url=url, prompt="{source} =", concurrency=2, samples=1 if RELEASED else None)
        yield Endpoint("llm", name, settings, ("de", "en"))


def test_fifty_translations_are_those_of_transformers_greedy_decoder(model: ChatModel, endpoint: Endpoint) -> None:
    sources = sentences(50, 7)
    journal = Journal()
    lists = EndpointTranslator(endpoint, max_pieces=LONGEST).translate(sources, journal=journal)
    expected = [model.generate(source, LONGEST) for source in sources]
    assert [found[0].text for found in lists] == expected
    assert len(set(expected)) > 10  # it has learnt to read the source
    if not RELEASED:
        distinct = set(sources)
        assert journal.usage.prompt_tokens == sum(len(source.split()) + 2 for source in distinct)
        assert journal.usage.completion_tokens >= 2 * len(distinct)


def test_samples_differ_and_are_repeated_with_the_same_seed(endpoint: Endpoint) -> None:
    sources, drawing = sentences(4, 8), Drawing(seed=5, temperature=2.5)

    def texts() -> list[list[str]]:
        lists = EndpointTranslator(endpoint, nbest=4, drawing=drawing, max_pieces=LONGEST).translate(sources)
        return [[each.text for each in found] for found in lists]

    found = texts()
    assert max(len(set(each)) for each in found) > 1
    if not RELEASED:  # its random numbers are shared by requests at the same time
        assert texts() == found
