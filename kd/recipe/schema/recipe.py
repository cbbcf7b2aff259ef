"""The whole schema of a recipe: one field for each Hydra config group.

`conf/base.yaml` has the values that a recipe starts from.
"""

from __future__ import annotations

from dataclasses import dataclass

from kd.recipe.schema.augmenting import AugmentConfig
from kd.recipe.schema.corpora import (
    CleanConfig,
    CorpusConfig,
    EncodeConfig,
    PairConfig,
    ShardConfig,
    SplitConfig,
    VocabularyConfig,
)
from kd.recipe.schema.distillation import (
    DecodeConfig,
    GuardsConfig,
    ScoreConfig,
    SelectConfig,
    StudentsConfig,
)
from kd.recipe.schema.given import GivenListsConfig, GivenModelConfig, GivenModelsConfig
from kd.recipe.schema.judging import EvaluateConfig, ExportConfig, ReleaseConfig, ReportConfig
from kd.recipe.schema.learning import SoftenConfig
from kd.recipe.schema.marks import setting
from kd.recipe.schema.mixing import MixtureMemberConfig
from kd.recipe.schema.running import FolderConfig, LauncherConfig, MachineConfig, StageConfig, TrackingConfig
from kd.recipe.schema.searching import SearchConfig
from kd.recipe.schema.source_only import SourceOnlyConfig
from kd.recipe.schema.training import CheckpointConfig, FinetuneConfig, TrainConfig

FILES_PAIR = "source-target"  # of recipe=files, until the languages are named


@dataclass
class FilesConfig:
    """The user's own two files, or one file with both sides."""

    source: str | None = setting("Path of the source side, or of the file with both sides.", None)
    target: str | None = setting("Path of the target side; null if one file has both.", None)


@dataclass
class RecipeConfig:
    """All settings of a run."""

    recipe: str = setting("Name of the recipe; `recipe=NAME` on the command line chooses it.")
    seed: int = setting("Default of the seeds of all stages.", at_least=0)
    source: str | None = setting("recipe=files: path of the source side, or of the file with both sides.", None)
    target: str | None = setting("recipe=files: path of the target side.", None)
    dev: FilesConfig = setting("recipe=files: your own dev set.", factory=FilesConfig)
    test: FilesConfig = setting("recipe=files: your own test set.", factory=FilesConfig)
    pairs: dict[str, PairConfig] = setting("Translation directions by name: `en-de`.", factory=dict)
    corpus: CorpusConfig = setting("Parallel text.", factory=CorpusConfig)
    clean: CleanConfig = setting("Cleaning.", factory=CleanConfig)
    split: SplitConfig = setting("Held-out sets.", factory=SplitConfig)
    shard: ShardConfig = setting("Shuffling and cutting.", factory=ShardConfig)
    vocabulary: VocabularyConfig = setting("Sentencepiece vocabulary.", factory=VocabularyConfig)
    encode: EncodeConfig = setting("Conversion of text to token ids.", factory=EncodeConfig)
    teacher: TrainConfig = setting("Training of the teachers.", factory=TrainConfig)
    guards: GuardsConfig = setting("Guards against bad hypotheses.", factory=GuardsConfig)
    augment: AugmentConfig = setting("Variants of training pairs for robust students.", factory=AugmentConfig)
    decode: DecodeConfig = setting("Decoding with the teachers.", factory=DecodeConfig)
    select: SelectConfig = setting("Selection from n-best lists.", factory=SelectConfig)
    score: ScoreConfig = setting("Scores of n-best lists by neural models.", factory=ScoreConfig)
    source_only: SourceOnlyConfig = setting("Text without translations.", factory=SourceOnlyConfig)
    teachers: dict[str, GivenModelConfig] = setting(
        "Teachers trained elsewhere by name (chain=given_teachers): engine and model of each.", factory=dict
    )
    mixture: dict[str, MixtureMemberConfig] = setting(
        "Members of a mixture by name, whose lists are joined for each source (docs/own.md). A member has the name of "
        "its teacher, or names several; empty: all teachers decode as one ensemble.",
        factory=dict,
    )
    given_models: GivenModelsConfig = setting("Settings that all given teachers share.", factory=GivenModelsConfig)
    given_lists: GivenListsConfig = setting(
        "N-best lists made elsewhere (chain=given_lists).", factory=GivenListsConfig
    )
    student: TrainConfig = setting("Training of the student.", factory=TrainConfig)
    soften: SoftenConfig = setting("Token distributions of the teachers, stored.", factory=SoftenConfig)
    students: StudentsConfig = setting("Further students.", factory=StudentsConfig)
    finetune: FinetuneConfig = setting("Fine-tuning of the student.", factory=FinetuneConfig)
    in_domain: dict[str, bool] = setting(
        "Corpora of `corpus.sources` that the in-domain student is fine-tuned on, as NAME: true.", factory=dict
    )
    search: SearchConfig = setting("Search for an architecture.", factory=SearchConfig)
    checkpoint: CheckpointConfig = setting("Checkpoints of all trainings.", factory=CheckpointConfig)
    evaluate: EvaluateConfig = setting("Evaluation.", factory=EvaluateConfig)
    export: ExportConfig = setting("Export for deployment.", factory=ExportConfig)
    release: ReleaseConfig = setting("Folders for distribution.", factory=ReleaseConfig)
    report: ReportConfig = setting("Page of results.", factory=ReportConfig)
    launcher: LauncherConfig = setting("What executes tasks.", factory=LauncherConfig)
    machine: MachineConfig = setting("The computer.", factory=MachineConfig)
    tracking: TrackingConfig = setting("Progress and trackers.", factory=TrackingConfig)
    run: FolderConfig = setting("Folder of the run: links, frozen configs, logs.", factory=FolderConfig)
    store: FolderConfig = setting("Folder of all artifacts.", factory=FolderConfig)
    chain: dict[str, StageConfig] = setting("The stages by name (docs/recipes.md).", factory=dict)
