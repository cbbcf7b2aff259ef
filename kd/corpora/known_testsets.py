"""Names of corpora that are, or contain, well-known test sets: training on them makes scores meaningless.

A name is a hint, not proof, so it only causes a warning. `kd.corpora.leakage` finds actual leaks into training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kd.corpora.ids import SOURCE_ONLY

# Whole words of a name, in lower case and with `-` between words -> what such a corpus is. The names are those of OPUS
# (opus.nlpl.eu), of the catalogue of mtdata 0.5.1 (`Statmt-newstest_deen-2019-deu-eng`) and of sacreBLEU 2.6 (`wmt19`).
KNOWN = {
    # OPUS describes it as the news test sets that WMT provides.
    r"wmt-?news": "OPUS's WMT-News: the news test sets of WMT",
    # statmt.org/wmt06 to wmt24, translation-task.html: newstest2019, newsdev2016, newssyscomb2009, newstestB2020 …
    r"news-?(test|dev|syscomb|discuss-?(dev|test))b?[0-9]*": "a news test or dev set of WMT",
    r"(general|biomedical|medline|chat|it|patent)-?test[0-9]*": "a test set of a shared task of WMT",
    r"wmt-?[0-9]+(pp|-?(test|dev))": "a test set of WMT",
    r"(nc-?)?(dev|test|devtest)-?200[5-9][ab]?": "a test or dev set of WMT 2006 to 2009",
    # statmt.org/europarl/archives.html: Q4/2000 is reserved for testing.
    r"(common|europarl)-?test": "Europarl's common test set",
    # Goyal et al., 2022; NLLB Team, 2022; github.com/openlanguagedata/flores
    r"flores(-?(101|200|plus|test))?": "FLORES",
    r"ntrex(-?128)?": "NTREX-128, newstest2019 in many languages (Federmann et al., 2022)",
    r"belebele": "Belebele, whose passages are those of FLORES-200 (Bandarkar et al., 2024)",
    r"tico(-?19)?": "TICO-19, a test set (Anastasopoulos et al., 2020)",
    r"khresmoi": "Khresmoi, a test set of WMT's medical task (Dušek et al., 2017)",
    # Tiedemann, 2020: its test sets are taken out of Tatoeba.
    r"tatoeba(-(mt|challenge|test|dev).*)?": "Tatoeba, which the test sets of the Tatoeba challenge are drawn from",
    # wit3.fbk.eu: IWSLT14.TED.tst2013, dev2010 …
    r"iwslt-?[0-9]*-(.*-)?(dev|test|tst)-?[0-9]*|(tst|dev)-?20(06|1[0-9])": "a test or dev set of IWSLT",
    r"ted-?(talks)?-?(dev|test)|must-?c-(dev|tst).*|mtedx-(dev|valid|test)": "a test or dev set of TED talks",
    # Elliott et al., 2016; 2017: test_2016_flickr, test_2017_mscoco, val
    r"multi-?30k-(val|dev|test).*|test-?201[678]-(flickr|mscoco)": "a test or dev set of Multi30k",
    r"mtnt-?(20)?(18|19)?": "MTNT, a test set of WMT 2019 (Michel and Neubig, 2018)",
    # A part of a corpus that its makers set aside: OPUS-opus100_test, UN-un_dev, ParIce-eea_dev …
    r"(opus-?100|un|unpc|wat|pmi|alt|hien|kftt|jesc|hansard|eea|ema|bhltr|indian)-(dev|test|devtest)":
        "a part of a corpus that is set aside for testing",
    r"(test|dev|devtest|mt-test|test-?set|dev-?set|held-?out|evaluation-?set)-?[0-9]*": "a test or dev set by its name",
}  # fmt: skip
_PATTERNS = [(re.compile(rf"-(?:{pattern})-"), what) for pattern, what in KNOWN.items()]
# Names of sacreBLEU's that mean training data where more is said: `wmt13` in `Statmt-europarl_wmt13`.
_ALONE = re.compile(r"-(wmt-?[0-9]+(-(full|tworefs|[a-z]{2}-[a-z]{2}))*|iwslt-?[0-9]+)-")
_TRAINING = re.compile(r"-(train|training)(-|[0-9])")


def training_names(sources: Mapping[Any, Any]) -> dict[str, list[str]]:
    """Return the training corpora with all their names, from a recipe's `corpus.sources` as plain values."""
    return {
        str(name): [value for value in source.values() if isinstance(value, str)]
        for name, source in sources.items()
        if isinstance(source, Mapping) and source.get("use") in ("train", SOURCE_ONLY)
    }


def known_test_sets(named: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return the corpora that are known test sets, with the names of these test sets.

    Args:
        named: A training corpus' name in the recipe -> its other names, such as paths or catalogue ids.
    """
    found = {}
    for name, others in named.items():
        what = next(filter(None, map(_recognised, (name, *others))), None)
        if what is not None:
            found[name] = what
    return found


def _recognised(text: str) -> str | None:
    plain = _plain(text.rstrip("/").rpartition("/")[2])  # of a path: its folders say little
    if _TRAINING.search(plain):
        return None
    if _ALONE.fullmatch(plain) or _ALONE.fullmatch(_plain(text)):
        return "a test set by sacreBLEU's name"
    return next((what for pattern, what in _PATTERNS if pattern.search(plain)), None)


def _plain(name: str) -> str:
    return "-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + "-"
