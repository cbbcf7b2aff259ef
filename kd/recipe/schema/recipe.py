"""The whole schema of a recipe: one field for each Hydra config group.

`conf/base.yaml` says which values a recipe starts from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

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
    GivenListsConfig,
    GivenModelsConfig,
    GuardsConfig,
    SelectConfig,
    StudentsConfig,
)
from kd.recipe.schema.judging import EvaluateConfig, ExportConfig, ReleaseConfig, ReportConfig
from kd.recipe.schema.running import FolderConfig, LauncherConfig, MachineConfig, StageConfig, TrackingConfig
from kd.recipe.schema.searching import SearchConfig
from kd.recipe.schema.training import CheckpointConfig, FinetuneConfig, TrainConfig

FILES_PAIR = "source-target"  # of recipe=files, until the languages are named


@dataclass
class RecipeConfig:
    """A whole run."""

    recipe: str = MISSING
    seed: int = MISSING
    source: str | None = None  # `recipe=files`: the user's own two files
    target: str | None = None
    pairs: dict[str, PairConfig] = field(default_factory=dict)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    teacher: TrainConfig = field(default_factory=TrainConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    given_models: GivenModelsConfig = field(default_factory=GivenModelsConfig)
    given_lists: GivenListsConfig = field(default_factory=GivenListsConfig)
    student: TrainConfig = field(default_factory=TrainConfig)
    students: StudentsConfig = field(default_factory=StudentsConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    # Corpora of `corpus.sources` that the in-domain student goes on with: NAME: true.
    in_domain: dict[str, bool] = field(default_factory=dict)
    search: SearchConfig = field(default_factory=SearchConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: FolderConfig = field(default_factory=FolderConfig)
    store: FolderConfig = field(default_factory=FolderConfig)
    chain: dict[str, StageConfig] = field(default_factory=dict)
