"""Greedy translation of dev during a training, by kd's own search instead of fairseq's, with equal results."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from kd.engines.fairseq.search import NaNFound, StackedSearch
from kd.engines.fairseq.stacked_weights import unsupported


class GreedySearch:
    """kd's search with the interface that `TranslationTask.valid_step` expects of a sequence generator.

    Args:
        model: A Transformer for which `unsupported` returns None. Its weights may change between two calls.
        dictionary: The target dictionary.
        max_pieces: Longest output in tokens, without the end of sentence.
    """

    def __init__(self, model: Any, dictionary: Any, *, max_pieces: int) -> None:
        self._model, self._dictionary, self._max_pieces = model, dictionary, max_pieces

    def generate(self, _: Sequence[Any], sample: dict[str, Any], **__: Any) -> list[list[dict[str, Any]]]:
        """Translate a batch of fairseq's.

        Returns:
            For each sentence a list of one hypothesis, whose `tokens` are its ids with the end of sentence, on the CPU.
            A model that computes NaN translates nothing: each hypothesis is an end of sentence alone.
        """
        import torch

        # The search copies the weights, which the next update changes.
        search = StackedSearch([self._model], self._dictionary, beam=1, max_pieces=self._max_pieces, length_penalty=1.0)
        tokens = sample["net_input"]["src_tokens"]
        try:
            ids = [found[0].ids for found in search.search(tokens)]
        except NaNFound:
            ids = [[self._dictionary.eos()]] * len(tokens)
        return [[{"tokens": torch.tensor(each)}] for each in ids]


def install() -> None:
    """Make fairseq's translation task validate with kd's search where that supports the model, once per process."""
    from fairseq.tasks.translation import TranslationTask

    build = TranslationTask.build_generator

    def build_generator(self: Any, models: Sequence[Any], args: Namespace, *rest: Any, **options: Any) -> Any:
        greedy = set(vars(args)) == {"beam", "max_len_a", "max_len_b"} and args.beam == 1 and args.max_len_a == 0
        if not greedy or len(models) != 1 or unsupported(models[0]):
            return build(self, models, args, *rest, **options)
        return GreedySearch(models[0], self.target_dictionary, max_pieces=args.max_len_b)

    TranslationTask.build_generator = build_generator
