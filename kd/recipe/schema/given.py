"""Settings of teachers and n-best lists that were made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kd.recipe.schema.distillation import GuardsConfig
from kd.recipe.schema.endpoints import EndpointConfig
from kd.recipe.schema.marks import same_as, setting


class TeacherEngine(StrEnum):
    """The engine of a given teacher."""

    fairseq = "fairseq"
    ctranslate2 = "ctranslate2"  # models of Hugging Face, converted in a stage
    endpoint = "endpoint"  # a language model behind an OpenAI-compatible server


@dataclass
class GivenModelConfig(EndpointConfig):
    """A teacher trained elsewhere, keyed by its name.

    In paths of given models and lists `{source}` and `{target}` stand for the pair's language codes; files are
    identified by their content.
    """

    engine: TeacherEngine = setting(
        "fairseq, ctranslate2 for models of Hugging Face, or endpoint for a server.", TeacherEngine.fairseq
    )
    model: str | None = setting(
        "A checkpoint of fairseq (*.pt) or a model folder of kd; with ctranslate2 the folder of a Hugging Face model, "
        "with endpoint the server's name of the model.",
        None,
        transient=True,
    )
    prefix: str = setting("ctranslate2: text before each source, such as `<2{target}> ` for MADLAD.", "")
    compute_type: str = setting("ctranslate2: number format of the converted weights.", "float32")
    checkpoint: str | None = setting("An older name of `model`, for a checkpoint of fairseq.", None, transient=True)
    folder: str | None = setting(
        "An older name of `model`, for a model folder of another run: runs/NAME/teacher.en-de/member-1.",
        None,
        transient=True,
    )


@dataclass
class GivenModelsConfig:
    """Models trained elsewhere that replace a training."""

    root: str | None = setting(
        "Folder that relative paths start from; null: the working directory.", None, path=True, transient=True
    )
    members: dict[str, GivenModelConfig] = setting(
        "The models by name, one task each. An older name of `teachers`.", same_as("teachers"), transient=True
    )
    vocabulary: str | None = setting("Sentencepiece model of the checkpoints.", None, transient=True)
    codes: str | None = setting(
        "BPE codes of fastBPE or subword-nmt, for text tokenised by Moses; replaces vocabulary.",
        None,
        transient=True,
    )
    moses: bool = setting("codes: whether the text was tokenised by Moses.", True)
    moses_escape: bool = setting(
        "codes: whether Moses escaped characters (&apos; …), as it does without -no-escape.", True
    )
    moses_dashes: bool = setting("codes: whether Moses split at dashes, as it does with -a.", True)
    dictionary: str | None = setting("fairseq's dict.txt, where both sides share it.", None, transient=True)
    source_dictionary: str | None = setting("fairseq's dictionary of the source side.", None, transient=True)
    target_dictionary: str | None = setting("fairseq's dictionary of the target side.", None, transient=True)
    source_language: str | None = setting(
        "Source language by the name that multilingual checkpoints have for it, such as en_XX; null: the name that "
        "matches the pair's code.",
        None,
    )
    target_language: str | None = setting(
        "Target language by the name that multilingual checkpoints have for it; null: the name that matches the pair's "
        "code.",
        None,
    )
    languages: str | None = setting(
        "All languages of multilingual checkpoints in the order of --lang-dict: en,de,fr; null: as stated in the "
        "checkpoint.",
        None,
    )


class Ids(StrEnum):
    """The meaning of ids in n-best lists made elsewhere."""

    lines = "lines"  # 0-based lines of the corpus as it was collected
    pairs = "pairs"  # kd's own ids of pairs


class ListFormat(StrEnum):
    """File formats of n-best lists."""

    moses = "moses"  # Moses and Marian
    fairseq = "fairseq"  # the output of fairseq-generate


class OnMissing(StrEnum):
    """The treatment of a source without an n-best list."""

    fail = "fail"
    gold = "gold"  # its human translations are its list


@dataclass
class GivenListsFileConfig:
    """A file of n-best lists made elsewhere, keyed by a name."""

    file: str = setting("Path; .gz, .zst, .xz and .bz2 are read directly.", transient=True)
    corpus: str | None = setting(
        "Corpus whose sources were decoded: a key of corpus.sources; needed if ids are line numbers.", None
    )
    ids: Ids = setting("Meaning of the ids: line numbers of that corpus, or kd's own pair ids.", Ids.lines)
    first: int = setting("lines: line number of id 0, counted from 0.", 0, at_least=0)
    format: ListFormat = setting(
        "Moses' and Marian's n-best lists, or the output of fairseq-generate.", ListFormat.moses
    )


@dataclass
class GivenListsConfig:
    """N-best lists made elsewhere that replace decoding."""

    root: str | None = setting(
        "Folder that relative paths start from; null: the working directory.", None, path=True, transient=True
    )
    files: dict[str, GivenListsFileConfig] = setting("The files by name.", factory=dict)
    nbest: int = setting("Hypotheses kept per list, counted from the first; 0: all.", 0, unit="hypotheses", at_least=0)
    on_missing: OnMissing = setting("Treatment of a source without a list.", OnMissing.fail)
    check_fit: bool = setting("Refuse lists that match their own sources no better than neighbouring sources.", True)
    workers: int = setting(
        "Tasks; worker i takes the shards whose number is i modulo workers, and reads all files.",
        1,
        unit="tasks",
        at_least=1,
    )
    guards: GuardsConfig = setting("Guards to count for the report.", same_as("guards"), transient=True)
