"""Names of test sets are known, names of training corpora are left alone."""

from __future__ import annotations

import pytest

from kd.corpora.known_testsets import known_test_sets, training_names

# As OPUS, the catalogue of mtdata 0.5.1, sacreBLEU 2.6 or the makers of the set call them.
TEST_SETS = [
    "WMT-News",
    "OPUS-wmt_news-v2019-deu-eng",
    "Statmt-newstest_deen-2019-deu-eng",
    "newstest2014",
    "newsdev2016",
    "newstestB2020",
    "wmt19",
    "wmt14/full",
    "Google-wmt24pp-1-eng-deu_DE",
    "Statmt-generaltest-2022_refA-deu-eng",
    "Flores-flores200_devtest-1-eng-deu",
    "flores101",
    "Openlanguagedata-flores_plus_dev-2.0",
    "Microsoft-ntrex-128-eng-deu",
    "NTREX",
    "OPUS-tatoeba-v20230412-deu-eng",
    "tico-19",
    "OPUS-tico_19-v20201028",
    "Lindat-khresmoi_summary_test-2-deu-eng",
    "IWSLT14.TED.tst2013.de-en",
    "IWSLT17.TED.dev2010.de-en",
    "iwslt17",
    "Neulab-tedtalks_test-1-eng-deu",
    "multi30k_test_2016",
    "test_2016_flickr",
    "test_2017_mscoco",
    "OPUS-opus100_test-1-deu-eng",
    "UN-un_dev-20090831",
    "ELRC-finnish_financial_mt_test_set_test-1-eng-fin",
    "europarl_common_test",
    "mtnt2019",
    "our-testset",
    "dev",
]
TRAINING = [
    "OPUS-europarl-v8-deu-eng",
    "Statmt-europarl_wmt13-7-deu-eng",
    "StanfordNLP-wmt14_train-1-ces-eng",
    "Statmt-news_commentary-18",
    "OPUS-news_commentary-v16",
    "ParaCrawl-paracrawl-9-deu-eng",
    "ELRC-regional_development-1-deu-eng",
    "Neulab-tedtalks_train-1",
    "StanfordNLP-iwslt15_train-1-eng-vie",
    "OPUS-ted2020-v1",
    "Facebook-wikimatrix-1-deu-eng",
    "OPUS-dgt-v2019",
    "EU-eac_forms-1",
    "ELRC-www.visitestonia.com-1",
    "OPUS-opus100_train-1",
    "home_assistant",
    "libreoffice",
    "euramis",
    "multi30k_train",
    "newscrawl",
    "latest",
    "contest",
    "devices",
    "OPUS-gnome-v1",
]


@pytest.mark.parametrize("name", TEST_SETS)
def test_test_sets_are_known(name: str) -> None:
    assert list(known_test_sets({name: ()})) == [name]
    if "/" not in name:
        assert list(known_test_sets({"ours": ["plain", f"/data/here/{name}"]})) == ["ours"]


@pytest.mark.parametrize("name", TRAINING)
def test_training_corpora_are_not(name: str) -> None:
    assert known_test_sets({name: [f"/data/newstest2014/{name}"]}) == {}


def test_only_what_is_trained_on_is_asked_about() -> None:
    sources = {
        "a": {"use": "train", "format": "mtdata", "id": "Statmt-newstest_deen-2019-deu-eng", "package": None},
        "b": {"use": "test", "name": "wmt19"},
        "c": {"use": "source", "source": "newstest2014.en"},
    }
    assert training_names(sources) == {
        "a": ["train", "mtdata", "Statmt-newstest_deen-2019-deu-eng"],
        "c": ["source", "newstest2014.en"],
    }
    assert list(known_test_sets(training_names(sources))) == ["a", "c"]
