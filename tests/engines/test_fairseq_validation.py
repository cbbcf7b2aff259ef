"""Validation during a training translates with kd's search and gives the hypotheses of fairseq's generator."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
import torch

from tests.engines.test_fairseq_search import PIECES, PRE_NORM, built, sources
from tests.engines.test_fairseq_search import dictionary as dictionary  # noqa: PLC0414 - a fixture of that module

KD_FLAGS = Namespace(beam=1, max_len_a=0, max_len_b=14)


def task_of(dictionary: Any) -> Any:
    from fairseq.tasks.translation import TranslationConfig, TranslationTask

    return TranslationTask(TranslationConfig(), dictionary, dictionary)


@pytest.fixture
def build(dictionary: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the task's two ways to build a generator: fairseq's, and the one that `install` puts in its place."""
    from fairseq.tasks.translation import TranslationTask

    from kd.engines.fairseq import validation

    stock = TranslationTask.build_generator
    monkeypatch.setattr(TranslationTask, "build_generator", stock)  # undone after the test
    validation.install()
    installed = TranslationTask.build_generator
    task = task_of(dictionary)
    return lambda model, args=KD_FLAGS: (stock(task, [model], args), installed(task, [model], args))


def tokens_of(generator: Any, model: Any, tokens: torch.Tensor) -> list[list[int]]:
    sample = {"net_input": {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}}
    return [found[0]["tokens"].tolist() for found in generator.generate([model], sample, prefix_tokens=None)]


@pytest.mark.parametrize("flags", [PRE_NORM, []])
def test_hypotheses_are_those_of_fairseqs_generator_also_after_an_update(
    dictionary: Any, build: Any, flags: list[str]
) -> None:
    model = built(dictionary, 5, *flags)
    stock, ours = build(model)
    assert type(ours).__name__ == "GreedySearch"
    batch = sources(dictionary, [3, 9, 1, 12, 5])
    first = tokens_of(ours, model, batch)
    assert first == tokens_of(stock, model, batch)
    with torch.no_grad():  # as an optimizer does, in place
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    second = tokens_of(ours, model, batch)
    assert second == tokens_of(stock, model, batch)
    assert second != first


def test_a_model_of_nan_translates_nothing(dictionary: Any, build: Any) -> None:
    model = built(dictionary, 6, *PRE_NORM)
    _, ours = build(model)
    with torch.no_grad():
        model.decoder.layers[0].fc1.weight.fill_(float("nan"))
    assert tokens_of(ours, model, sources(dictionary, [3, 4])) == [[dictionary.eos()]] * 2


@pytest.mark.parametrize(
    ("flags", "args"),
    [
        (["--adaptive-softmax-cutoff", f"20,{PIECES - 10}"], KD_FLAGS),
        (PRE_NORM, Namespace(beam=2, max_len_a=0, max_len_b=14)),
        (PRE_NORM, Namespace(beam=1, max_len_a=1.2, max_len_b=10)),
        (PRE_NORM, Namespace(beam=1, max_len_a=0, max_len_b=14, lenpen=0.5)),
    ],
)
def test_other_models_and_other_searches_stay_with_fairseq(
    dictionary: Any, build: Any, flags: list[str], args: Namespace
) -> None:
    _, chosen = build(built(dictionary, 7, *flags), args)
    assert type(chosen).__name__ == "SequenceGenerator"
