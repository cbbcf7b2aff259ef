"""Measure translation: an ensemble against fairseq's own search, and CTranslate2, with models of random weights."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence

from kd.base import energy
from kd.doctor.bench.material import make_model, sentences
from kd.doctor.bench.setup import BIG, LONGEST, STUDENT, NotMeasured, Setup, Values

_SEED = 100  # of the text, which no vocabulary was trained on
_BATCH_TOKENS = 4000
_FASTEST_TYPES = ("int8_float16", "float16", "int8_bfloat16", "bfloat16", "int8", "float32")


def ensemble(setup: Setup) -> Values:
    """Translate with an ensemble of the big model, by kd's search and by fairseq's own, in turn.

    fairseq's is the `SequenceGenerator` that `fairseq-generate` runs, with the same batches, models and precision; kd's
    also returns the score of each member.

    Returns: ours and stock (sentences per second, medians), ratio (median of the rounds), members, beam, sentences,
        precision, equal (sentences whose best translation is the same), joules_per_sentence (kd's; None without meter).
    """
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.models.vocabulary import Vocabulary

    size = setup.size
    folders = [make_model(setup, size.models[BIG], f"member-{n}", n) for n in range(1, size.members + 1)]
    text = list(sentences(size.sentences, _SEED))

    def translator(engine: str | None, *, members: bool) -> EnsembleTranslator:
        return EnsembleTranslator(
            folders,
            Vocabulary(folders[0]),
            beam=size.beam,
            max_pieces=size.max_pieces,
            batch_tokens=_BATCH_TOKENS,
            threads=setup.threads,
            device=setup.torch_device,
            precision=setup.decoding_precision,
            score_members=members,
            engine=engine,
        )

    ours, stock = translator(None, members=True), translator("stock", members=False)
    pairs = list(zip(ours.translate(text), stock.translate(text), strict=True))  # warms both up
    equal = sum(mine[0].pieces == theirs[0].pieces for mine, theirs in pairs)
    times: list[tuple[float, float]] = []
    joules: list[float] = []
    for _ in range(size.rounds):
        with setup.meter(1) as meter:
            mine = _seconds(lambda: ours.translate(text))
        if meter.spent.source != energy.NOT_MEASURED:
            joules.append(meter.spent.joules)
        times.append((mine, _seconds(lambda: stock.translate(text))))
    for folder in folders:
        shutil.rmtree(folder)
    return {
        "ours": size.sentences / statistics.median(mine for mine, _ in times),
        "stock": size.sentences / statistics.median(theirs for _, theirs in times),
        "ratio": statistics.median(theirs / mine for mine, theirs in times),
        "members": size.members,
        "beam": size.beam,
        "sentences": size.sentences,
        "precision": setup.decoding_precision,
        "equal": equal,
        "joules_per_sentence": statistics.median(joules) / size.sentences if joules else None,
    }


def ctranslate2(setup: Setup) -> Values:
    """Translate with a student in CTranslate2, in each number format that it computes in on this device.

    Returns: rates (number format -> sentences per second), beam, sentences.

    Raises:
        NotMeasured: CTranslate2 does not run on this GPU.
    """
    import ctranslate2 as library

    from kd.engines.ctranslate2 import PieceTranslator, convert, load
    from kd.models.folder import ModelFolder
    from kd.models.vocabulary import Vocabulary

    if setup.device != "cpu" and not library.get_cuda_device_count():
        raise NotMeasured("The installed CTranslate2 finds no GPU; its wheels are for NVIDIA only.")
    device = setup.torch_device
    size = setup.size
    folder = make_model(setup, size.models[STUDENT], "student", 1)
    convert(ModelFolder.open(folder), folder / "converted", "float32")
    encoded = Vocabulary(folder).encode_pieces(list(sentences(size.sentences, _SEED)))
    sources = [pieces[: LONGEST - 1] for pieces in encoded]
    threads = setup.threads if setup.device == "cpu" else 1  # on a GPU, several batches at once are no faster
    supported = library.get_supported_compute_types(device)
    rates = {}
    for kind in [each for each in _FASTEST_TYPES if each in supported]:
        model = load(folder / "converted", compute_type=kind, threads=threads, device=device)
        search = PieceTranslator(
            model, beam=size.beam, nbest=1, max_pieces=size.max_pieces, length_penalty=1.0, batch_tokens=_BATCH_TOKENS
        )
        search.nbest(sources)  # warms up
        seconds = [_seconds(_translation(search.nbest, sources)) for _ in range(size.rounds)]
        rates[kind] = size.sentences / statistics.median(seconds)
    shutil.rmtree(folder)
    return {"rates": rates, "beam": size.beam, "sentences": size.sentences}


def _translation(nbest: Callable[[Sequence[list[str]]], object], sources: list[list[str]]) -> Callable[[], object]:
    return lambda: nbest(sources)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
