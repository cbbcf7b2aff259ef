"""LibreTranslate's API, in the forms in which its clients send requests.

Fields and answers are those of LibreTranslate's own documentation (https://docs.libretranslate.com) and of the clients
libretranslatepy (JSON and forms by urllib), argos-translate's and LibreTranslate's page (multipart forms).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kd
from tests.serve.running import Server

TEXT = "eins zwei drei."


@pytest.fixture(scope="module")
def expected(folders: tuple[Path, Path]) -> str:
    return next(iter(kd.Translator(folders[0], threads=1).translate([TEXT])))


def test_a_json_request_is_answered_with_the_translation_of_kd_translate(server: Server, expected: str) -> None:
    status, found = server.json("/translate", {"q": TEXT, "source": "de", "target": "en", "format": "text"})
    assert (status, found["translatedText"]) == (200, expected)
    assert set(found) == {"translatedText", "kd"}
    assert found["kd"]["models"] == ["float32"] and found["kd"]["sentences"] == 1


def test_forms_and_query_strings_are_answered_alike(server: Server, expected: str) -> None:
    fields = {"q": TEXT, "source": "de", "target": "en", "api_key": ""}
    assert server.form("/translate", fields)[1]["translatedText"] == expected
    boundary = "----x"
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    status, body, _ = server.send("POST", "/translate", f"{parts}--{boundary}--\r\n", kind)
    assert (status, json.loads(body)["translatedText"]) == (200, expected)
    status, body, _ = server.send("POST", "/translate?q=eins+zwei+drei.&source=de&target=en")
    assert (status, json.loads(body)["translatedText"]) == (200, expected)


def test_several_texts_give_several_translations_in_order(server: Server, folders: tuple[Path, Path]) -> None:
    texts = ["eins.", "", "zwei drei.", "eins."]
    expected = list(kd.Translator(folders[0], threads=1).translate(texts))
    body = {"q": texts, "source": "de", "target": "en"}
    assert server.json("/translate", body)[1]["translatedText"] == expected
    fields = [("q", text) for text in texts] + [("source", "de"), ("target", "en")]
    assert server.form("/translate", fields)[1]["translatedText"] == expected
    assert server.json("/translate", {"q": [], "source": "de", "target": "en"})[1]["translatedText"] == []


def test_lines_of_a_text_stay_lines(server: Server, folders: tuple[Path, Path]) -> None:
    expected = "\n".join(kd.Translator(folders[0], threads=1).translate(["eins.", "", "zwei."]))
    body = {"q": "eins.\n\nzwei.", "source": "de", "target": "en"}
    assert server.json("/translate", body)[1]["translatedText"] == expected


def test_of_html_the_text_is_translated_and_the_markup_stays(server: Server, folders: tuple[Path, Path]) -> None:
    one, two = kd.Translator(folders[0], threads=1).translate(["eins.", "zwei < drei"])
    html = '<p class="a">eins.</p> <!-- eins --><code>eins</code><br/><i translate=no>eins</i> zwei &lt; drei'
    escaped = two.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    wanted = f'<p class="a">{one}</p> <!-- eins --><code>eins</code><br/><i translate=no>eins</i> {escaped}'
    body = {"q": html, "source": "de", "target": "en", "format": "html"}
    assert server.json("/translate", body)[1]["translatedText"] == wanted


def test_alternatives_follow_the_best_translation(server: Server, expected: str) -> None:
    body = {"q": TEXT, "source": "de", "target": "en", "alternatives": 2}
    found = server.json("/translate", body)[1]
    assert found["translatedText"] == expected
    assert len(found["alternatives"]) == 2 and expected not in found["alternatives"]


def test_the_source_language_is_detected(server: Server, expected: str) -> None:
    found = server.json("/translate", {"q": TEXT, "source": "auto", "target": "en"})[1]
    assert found["translatedText"] == expected
    assert found["detectedLanguage"]["language"] == "de" and 0 <= found["detectedLanguage"]["confidence"] <= 100
    (detected,) = server.json("/detect", {"q": "Das ist ein deutscher Satz."})[1]
    assert detected["language"] == "de" and detected["confidence"] > 50


def test_codes_of_other_standards_name_the_same_language(server: Server, expected: str) -> None:
    for source, target in (("deu", "eng"), ("de-DE", "en-GB"), ("DE", "EN")):
        found = server.json("/translate", {"q": TEXT, "source": source, "target": target})
        assert found[0] == 200 and found[1]["translatedText"] == expected


def test_a_request_names_its_model(server: Server, folders: tuple[Path, Path]) -> None:
    expected = next(iter(kd.Translator(folders[1], threads=1).translate([TEXT])))
    found = server.json("/translate", {"q": TEXT, "source": "de", "target": "en", "model": "int8"})[1]
    assert found["translatedText"] == expected and found["kd"]["models"] == ["int8"]


def test_languages_models_and_settings_are_listed(server: Server) -> None:
    assert server.json("/languages") == (200, [{"code": "de", "name": "German", "targets": ["en"]}])
    models = server.json("/models")[1]
    assert [(each["name"], each["source"], each["target"], each["type"]) for each in models] == [
        ("float32", "de", "en", "float32"), ("int8", "de", "en", "int8"),
    ]  # fmt: skip
    settings = server.json("/frontend/settings")[1]
    assert settings["charLimit"] == 2000 and settings["keyRequired"] is False
    assert settings["language"]["target"] == {"code": "en", "name": "English"}
    assert server.json("/health") == (200, {"status": "ok"})


def test_metrics_are_in_the_format_of_prometheus(server: Server) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    server.json("/translate", {"q": TEXT, "source": "de", "target": "en"})
    server.send("GET", "/no/such/page")
    status, page, headers = server.send("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    samples: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    answered = {(each.labels["path"], each.labels["status"]): each.value for each in samples["kd_requests_total"]}
    assert answered["/translate", "200"] >= 1 and answered["other", "404"] >= 1
    assert samples["kd_batch_lines_count"][0].value >= 1
    assert samples["kd_requests_waiting"][0].value == 0
    assert "process_resident_memory_bytes" in samples
