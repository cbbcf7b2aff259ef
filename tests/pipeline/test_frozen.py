"""A frozen task equals the planned one, and starts without planning the recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.fingerprint import canonical, restore
from kd.pipeline.frozen import frozen_stages, thawed_task
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.chain import stage_spec
from kd.stages import load_kind
from tests.pipeline.dummies import Write, entry, plan, run


def test_a_thawed_task_gives_the_same_artifact(tmp_path: Path) -> None:
    chain = plan(entry("a", workers=2), entry("b", inputs={"many": {"first": "a"}}))
    stages = json.loads(json.dumps(frozen_stages(chain)))
    planned, thawed = Store(tmp_path / "planned"), Store(tmp_path / "thawed")
    for stage, name in (("a", "worker-0"), ("a", "worker-1"), ("b", "worker-0")):
        run(chain.task(stage, name), planned)
        run(thawed_task(stages, stage, name, lambda _: Write()), thawed)
    found = [path.relative_to(planned.root) for path in planned.root.glob("*/*/*/manifest.json")]
    assert len(found) == 3
    for path in found:
        first, second = (json.loads((store.root / path).read_text()) for store in (planned, thawed))
        changing = ("finished", "seconds", "cpu_seconds", "peak_memory")
        assert {**first, **dict.fromkeys(changing)} == {**second, **dict.fromkeys(changing)}


@pytest.mark.parametrize("recipe", ["demo", "da_de_nl_sv_en_small"])
def test_every_config_of_a_recipe_survives_freezing(recipe: str) -> None:
    config = compose.compose(compose.Request(recipe, ()))
    specs = {name: stage_spec(config, str(name)) for name in config.chain}
    assert len(specs) > 10
    for spec in specs.values():
        plain = json.loads(json.dumps(canonical(spec.config)))
        assert restore(spec.kind.config, plain) == spec.config


def test_another_version_of_a_kind_is_refused() -> None:
    stages = frozen_stages(plan(entry("a")))
    stages["a"]["version"] = 0
    with pytest.raises(UserError, match=r"kd has changed since a was planned\. Plan it again by `kd run`\."):
        thawed_task(stages, "a", "worker-0", lambda _: Write())


def test_a_setting_that_no_longer_exists_is_refused() -> None:
    stages = frozen_stages(plan(entry("a")))
    stages["a"]["config"]["removed"] = 1
    with pytest.raises(UserError, match="kd has changed"):
        thawed_task(stages, "a", "worker-0", lambda _: Write())


def test_an_unknown_task_is_refused() -> None:
    stages = frozen_stages(plan(entry("a")))
    with pytest.raises(UserError, match="There is no stage called b"):
        thawed_task(stages, "b", "worker-0", load_kind)
    with pytest.raises(UserError, match=r"There is no task of a called worker-7\. Did you mean worker-0"):
        thawed_task(stages, "a", "worker-7", load_kind)
