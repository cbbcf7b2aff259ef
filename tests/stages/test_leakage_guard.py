"""Recipes as far as shard, in this process: what dev and test sets hold is in no train, and the record says so."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from kd.base import resources
from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.corpora.heldout import read_sets
from kd.corpora.ids import Pair
from kd.corpora.leakage import normalised, words
from kd.corpora.lines import open_lines
from kd.corpora.shards import Corpus
from kd.pipeline.execute import execute
from kd.pipeline.store import ArtifactPaths, Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.stages.outputs import LEAKED
from tests.messages import messages

LANGUAGES = ("da", "de", "fi", "hu", "nl", "sv")
Texts = list[tuple[str, str]]


class Recipe:
    """A recipe in a folder of its own, as far as its shards."""

    def __init__(self, folder: Path, pairs: list[str], sources: Mapping[str, Any], **settings: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        # Made-up text: nothing is to go but by the guard. Which filters there are is not this test's business.
        kept = ("empty", "duplicates")
        names = OmegaConf.load(resources.folder("conf") / "clean" / "default.yaml").filters
        lax = {"filters": {name: {"enabled": False} for name in names if name not in kept}}
        content = {
            "defaults": ["/base", "_self_"],
            "pairs": {pair: {} for pair in pairs},
            "corpus": {"root": str(folder), "sources": dict(sources)},
            "clean": lax,
            "run": {"dir": str(folder / "run")},
            "store": {"dir": str(folder / "store")},
            **settings,
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")

    def run(self, *overrides: str) -> dict[str, ArtifactPaths]:
        """The places of what was made, by stage."""
        config = compose.compose(Request(str(self.folder), overrides))
        plan, store = compose.plan(config), Store(Path(config.store.dir))
        places = {}
        for stage in plan.needed_for(plan.find("shard")):
            for task in stage.tasks:
                execute(task, store, threads=1, device="cpu", machine={})
                places[stage.name] = store.paths(task)
        return places


def write(folder: Path, name: str, texts: Texts) -> dict[str, str]:
    """Two aligned files, as a corpus of a recipe."""
    for side, lines in zip(("source", "target"), zip(*texts, strict=True), strict=True):
        (folder / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
    return {"format": "plain", "source": f"{name}.source", "target": f"{name}.target"}


def trained_on(place: ArtifactPaths) -> list[Pair]:
    return list(Corpus(place.final).read())


# --- planted sentences -----------------------------------------------------------------------------------------------

TEST: Texts = [
    ("The council may at any time ask for a new opinion.", "Der Rat kann jederzeit eine neue Stellungnahme verlangen."),
    ("Article 1", "Artikel 1"),
    ("Members are bound by the oath that they have taken.", "Die Mitglieder sind an ihren geleisteten Eid gebunden."),
]
PLANTED: dict[str, tuple[str, str]] = {
    "both: verbatim": TEST[0],
    "both: short": ("ARTICLE  1", "artikel 1"),
    "source: verbatim": (TEST[0][0], "Der Rat kann stets um eine andere Auffassung bitten."),
    "source: changed": (
        "THE COUNCIL MAY  at any time ask for a new opinion",
        "Ganz neu übersetzt ist dieser Satz hier.",
    ),
    "target: verbatim": ("Whoever is a member has sworn an oath, and it binds.", TEST[2][1]),
    "target: changed": ("An oath binds all members of it alike.", f" {TEST[2][1].upper().replace(' ', '  ')} "),
    "kept: short source": ("Article 1", "Paragraph eins"),
    "kept: short target": ("Article one", "Artikel 1"),
    "kept: near": (
        "The council may at any time ask for an old opinion.",
        "Der Rat kann jederzeit eine alte verlangen.",
    ),
}
FILLERS: Texts = [
    (f"This is sentence {i} of many more.", f"Das ist hier und jetzt der Satz mit Nummer {i} von vielen.")
    for i in range(60)
]


@pytest.fixture
def planted(tmp_path: Path) -> Recipe:
    """A recipe whose corpus holds sentences of its test set, and with a second pair of German into English."""
    turned = [(german, english) for english, german in [*PLANTED.values(), *reversed(FILLERS)]]
    return Recipe(
        tmp_path,
        ["en-de", "de-en"],
        {
            "law": {**write(tmp_path, "law", [*FILLERS, *PLANTED.values()]), "pairs": {"en-de": True}},
            "turned": {**write(tmp_path, "turned", turned), "pairs": {"de-en": True}},
            "exam": {**write(tmp_path, "exam", TEST), "pairs": {"en-de": True}, "use": "test"},
            "exercise": {
                **write(tmp_path, "exercise", [("A dev set", "Eine Menge")]),
                "pairs": {"en-de": True},
                "use": "dev",
            },
        },
        split={"dev": 5, "test": 5, "min_words": 10},  # more than what is planted has: de-en draws none of it
    )


def test_planted_sentences_are_found_and_removed(planted: Recipe) -> None:
    places = planted.run()
    texts = {(pair.source, pair.target) for pair in trained_on(places["shard.en-de"])}
    assert {name for name, pair in PLANTED.items() if pair in texts} == {
        "kept: short source",
        "kept: short target",
        "kept: near",
    }
    manifest = places["shard.en-de"].manifest()
    found = manifest["facts"]["leakage"]
    # Besides what is planted: what de-en has drawn, which stands here the other way round.
    drawn = {f"de-en {use}": {"both": 5, "source": 0, "target": 0} for use in ("dev", "test")}
    assert found["sets"] == {**drawn, "en-de test (exam)": {"both": 2, "source": 2, "target": 2}}
    assert found["held_out_sets"] == {
        "de-en dev": 5, "de-en test": 5, "en-de dev (exercise)": 1, "en-de test (exam)": 3,
    }  # fmt: skip
    assert manifest["dropped"] == {"leaks both sides": 12, "leaks a source": 2, "leaks a target": 2, "held out": 0}
    assert manifest["facts"]["note"] == "leakage: removed 16"
    leaked = places["shard.en-de"].final / LEAKED
    assert len(list(open_lines(leaked))) == 1 + 16
    index = json.loads((leaked.parent / "leakage.json").read_text("utf-8"))
    assert index["sample"] == {"bytes": leaked.stat().st_size, "sha256": sha256(leaked)}

    turned = places["shard.de-en"].manifest()
    assert turned["facts"]["leakage"]["sets"] == {"en-de test (exam)": {"both": 2, "source": 2, "target": 2}}
    assert turned["dropped"]["held out"] == 10


def test_a_test_set_is_drawn_beside_given_ones_where_asked_for(planted: Recipe) -> None:
    places = planted.run("split.test_beside_given=true", "split.min_words=7")
    sets = {each.name: each for each in read_sets(places["split"].final) if each.use == "test"}
    assert {name: (len(each.pairs), each.drawn) for name, each in sets.items() if name.startswith("en-de")} == {
        "en-de test (exam)": (3, False),
        "en-de test": (5, True),
    }
    held = {pair.source for pair in sets["en-de test"].pairs}
    assert held.isdisjoint(pair.source for pair in trained_on(places["shard.en-de"]))


def test_fail_names_counts_and_examples(planted: Recipe) -> None:
    with pytest.raises(UserError) as caught:
        planted.run("corpus.leakage=fail")
    assert caught.value.problem.startswith(
        "6 training pairs of en-de match held-out sets "
        "(en-de test (exam): 2 by both sides, 2 by its source alone, 2 by its target alone), for instance "
    )
    assert "(law, pair 61: 'The council may" in caught.value.problem
    assert "corpus.leakage=remove" in caught.value.hint
    assert not [path for path in planted.folder.glob("store/shard.*/*/all") if path.is_dir()]


def test_a_share_of_a_corpus_is_a_sample_of_its_sources(planted: Recipe) -> None:
    whole = {pair.id: pair for pair in trained_on(planted.run()["shard.en-de"])}
    places = planted.run("shard.share=0.5")
    kept = {pair.id: pair for pair in trained_on(places["shard.en-de"])}
    assert kept.items() < whole.items()
    assert 0.25 < len(kept) / len(whole) < 0.75  # of some 65 sources
    sources = {pair.source for pair in kept.values()}
    assert all(pair.id in kept for pair in whole.values() if pair.source in sources)
    assert places["shard.en-de"].manifest()["dropped"]["beyond the share"] == len(whole) - len(kept)


def test_off_leaves_what_it_is_given_and_says_so(planted: Recipe) -> None:
    places = planted.run("corpus.leakage=off")
    texts = {(pair.source, pair.target) for pair in trained_on(places["shard.en-de"])}
    assert set(PLANTED.values()) <= texts
    manifest = places["shard.en-de"].manifest()
    assert manifest["facts"]["note"] == "LEAKAGE GUARD OFF"
    assert manifest["facts"]["leakage"]["mode"] == "off"
    # What a pair has drawn leaves its own corpus whatever the guard does.
    assert places["shard.de-en"].manifest()["dropped"] == {"held out": 10}
    with pytest.raises(UserError, match=r"corpus\.leakage is not valid: perhaps\. Set it to one of: remove, fail, off"):
        planted.run("corpus.leakage=perhaps")


def test_a_clean_corpus_is_called_clean(tmp_path: Path) -> None:
    sources = {"news_test": write(tmp_path, "law", FILLERS)}
    manifest = Recipe(tmp_path, ["en-de"], sources, split={"dev": 5, "test": 5}).run()["shard.en-de"].manifest()
    assert manifest["facts"]["note"] == "leakage: clean"
    assert manifest["dropped"] == {"held out": 10}
    assert list(manifest["facts"]["leakage"]["known_test_sets"]) == ["news_test"]


# --- six languages ---------------------------------------------------------------------------------------------------


def generated(language: str) -> Texts:
    """English that repeats from language to language, twice in each."""
    draw = random.Random(language)
    english = [f"Click button {i} to open the dialogue of the document." for i in range(400)]
    english += [f"Save {i}" for i in range(40)]
    return [(f"{language} {text[:-1]}", text) for text in draw.sample(english, 380)] * 2


def real(language: str) -> Texts:
    """Messages of a program, whose English is the same in all languages but for those that lack a translation."""
    return [(translation, english) for english, translation in messages(language)]


@pytest.mark.parametrize("texts_of", [generated, real])
def test_six_languages_hold_out_by_english(tmp_path: Path, texts_of: Callable[[str], Texts]) -> None:
    corpora = {language: texts_of(language) for language in LANGUAGES}
    out_of = "de"  # one of them out of English
    pairs = {lang: f"en-{lang}" if lang == out_of else f"{lang}-en" for lang in LANGUAGES}
    corpora[out_of] = [(english, foreign) for foreign, english in corpora[out_of]]
    sources = {
        f"help_{lang}": {**write(tmp_path, lang, texts), "pairs": {pairs[lang]: True}}
        for lang, texts in corpora.items()
    }
    size = len(corpora["fi"]) // 50
    places = Recipe(tmp_path, list(pairs.values()), sources, split={"dev": size, "test": size, "by": "en"}).run()

    def english(pair: Pair, name: str) -> str:
        return pair.source if name.startswith("en-") else pair.target

    sets = list(read_sets(places["split"].final))
    assert sorted(held.name for held in sets) == sorted(
        f"{name} {use}" for name in pairs.values() for use in ("dev", "test")
    )
    assert all(len(held.pairs) == size for held in sets)
    held_out = {use: {english(p, h.pair) for h in sets if h.use == use for p in h.pairs} for use in ("dev", "test")}
    assert not held_out["dev"] & held_out["test"]
    everything = held_out["dev"] | held_out["test"]
    long_ones = {normalised(text) for text in everything if words(text) > 5}
    for name in pairs.values():
        train = [english(pair, name) for pair in trained_on(places[f"shard.{name}"])]
        assert train
        assert everything.isdisjoint(train)
        assert long_ones.isdisjoint(map(normalised, train))


def test_by_a_language_that_a_pair_lacks_is_a_mistake_before_anything_runs(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, ["en-de"], {"law": write(tmp_path, "law", FILLERS)}, split={"by": "fi"})
    with pytest.raises(UserError, match="No side of en-de"):
        recipe.run()
    assert not (tmp_path / "store" / "split").exists()


def test_what_one_pair_tests_on_no_other_validates_on(tmp_path: Path) -> None:
    exercise: Texts = [TEST[0], ("Only a dev sentence, and no other.", "Nur ein Satz zum Validieren.")]
    corpora = {name: {**write(tmp_path, name, FILLERS), "pairs": {f"en-{name}": True}} for name in ("de", "da")}
    recipe = Recipe(
        tmp_path,
        ["en-de", "en-da"],
        {
            **corpora,
            "exam": {**write(tmp_path, "exam", TEST), "pairs": {"en-de": True}, "use": "test"},
            "exercise": {**write(tmp_path, "exercise", exercise), "pairs": {"en-da": True}, "use": "dev"},
        },
        split={"dev": 4, "test": 4},
    )
    split = recipe.run()["split"]
    by_name = {held.name: held for held in read_sets(split.final)}
    assert sorted(by_name) == ["en-da dev (exercise)", "en-da test", "en-de dev", "en-de test (exam)"]
    assert [pair.source for pair in by_name["en-da dev (exercise)"].pairs] == [exercise[1][0]]
    assert split.manifest()["counts"] == {
        "dev pairs of en-da": 1, "test pairs of en-da": 4, "dev pairs of en-de": 4, "test pairs of en-de": 3,
    }  # fmt: skip


def test_what_repeats_a_drawn_set_goes_and_does_not_fail(tmp_path: Path) -> None:
    shouted = [(source.upper(), target) for source, target in FILLERS]
    sources = {"law": write(tmp_path, "law", [*FILLERS, *shouted])}
    places = Recipe(tmp_path, ["en-de"], sources, split={"dev": 5, "test": 5}).run("corpus.leakage=fail")
    assert places["shard.en-de"].manifest()["dropped"] == {"held out": 10, "leaks both sides": 10}
