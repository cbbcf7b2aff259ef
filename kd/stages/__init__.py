"""The kinds of stages, one file each, each readable like the paragraph of a paper that it implements.

Kinds are looked up by name here, and imported only when a recipe uses them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kd.pipeline.model import Kind

# kind -> module and class; in the order of the chain
KINDS = {
    "collect": "kd.stages.collect:Collect",
    "collect_source": "kd.stages.collect:CollectSource",
    "clean": "kd.stages.clean:Clean",
    "split": "kd.stages.split:SplitSets",
    "shard": "kd.stages.shard:Shard",
    "augment": "kd.stages.augment:Augment",
    "vocabulary": "kd.stages.vocabulary:TrainVocabulary",
    "join": "kd.stages.join:Join",
    "encode": "kd.stages.encode:Encode",
    "train": "kd.stages.train:Train",
    "search": "kd.stages.search:Search",
    "soften": "kd.stages.soften:Soften",
    "average": "kd.stages.average:Average",
    "given_models": "kd.stages.given_models:GivenModels",
    "decode": "kd.stages.decode:Decode",
    "given_lists": "kd.stages.given_lists:GivenLists",
    "mix": "kd.stages.mix:Mix",
    "score": "kd.stages.score:Score",
    "select": "kd.stages.select:Select",
    "drop": "kd.stages.drop:Drop",
    "export": "kd.stages.export:Export",
    "translate": "kd.stages.translate:Translate",
    "speed": "kd.stages.speed:Speed",
    "evaluate": "kd.stages.evaluate:Evaluate",
    "release": "kd.stages.release:Release",
    "choose": "kd.stages.choose:Choose",
    "report": "kd.stages.report:Report",
}


def load_kind(name: str) -> Kind[Any]:
    """Return an instance of the kind with this name. Raise KeyError if there is none."""
    module, _, cls = KINDS[name].partition(":")
    kind: Kind[Any] = getattr(import_module(module), cls)()
    return kind
