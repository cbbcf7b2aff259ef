"""Secrets of URLs are masked, found again in the environment, and decide nothing but whether a server answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kd.base.urls import (
    is_local,
    is_secret,
    lacks_secrets,
    mask,
    mask_for_children,
    mask_output,
    mask_text,
    pass_on,
    scrub,
    with_secrets,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no variable of a test behind."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://alice:hunter2@example.org/a.en", "https://example.org/a.en"),
        ("http://alice@example.org:8080/a.en?v=2#x", "http://example.org:8080/a.en?v=2#x"),
        ("https://example.org/a?file=b.en&token=T1", "https://example.org/a?file=b.en&token=***"),
        ("https://example.org/a?Access_Token=T1&x=1", "https://example.org/a?Access_Token=***&x=1"),
        ("https://h/a?X-Amz-Date=1&X-Amz-Signature=2&id=3", "https://h/a?X-Amz-Date=***&X-Amz-Signature=***&id=3"),
        ("https://h/a?sv=1&se=2&sig=3&v=4", "https://h/a?sv=***&se=***&sig=***&v=4"),
        ("https://h/a?se=2&v=4", "https://h/a?se=2&v=4"),
        ("https://h/a?tok=1&tokens=2&monkey=3", "https://h/a?tok=1&tokens=2&monkey=3"),
        ("/data/user:pw@x/a?token=1", "/data/user:pw@x/a?token=1"),
        ("mtdata:A-b-1-deu-eng", "mtdata:A-b-1-deu-eng"),
    ],
)
def test_secrets_are_masked_and_the_rest_of_a_url_stays(url: str, masked: str) -> None:
    assert mask(url) == masked
    assert mask(masked) == masked


def test_a_reference_to_a_variable_is_no_secret() -> None:
    text = "source: https://al@h/{source}?token=${oc.env:MY_TOKEN}&sig=1 # see https://h/x?key=2"
    assert mask_text(text) == "source: https://h/{source}?token=${oc.env:MY_TOKEN}&sig=*** # see https://h/x?key=***"


def test_a_login_of_another_kind_of_url_is_masked() -> None:
    assert mask_text("no file ftp:/alice:hunter2@h/x or s3://id:key@bucket") == "no file ftp:/h/x or s3://bucket"
    assert mask_text("hf://datasets/a/b@c/x:y@z at 10:30@home") == "hf://datasets/a/b@c/x:y@z at 10:30@home"


def test_output_has_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """requests and huggingface_hub repeat a header in some messages."""
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, f" {name}-S3CRET ")
        assert mask_output(f"Invalid header 'Bearer {name}-S3CRET'") == "Invalid header 'Bearer ***'"
    monkeypatch.setenv("DESKTOP_SESSION", "ubuntu-session")
    assert mask_output(f"{Path.cwd()} ubuntu-session") == f"{Path.cwd()} ubuntu-session"


def test_output_has_no_secret_of_a_redirect() -> None:
    told = "Max retries exceeded with url: /x?id=3&X-Amz-Signature=abc (Caused by …)"
    assert mask_output(told) == "Max retries exceeded with url: /x?id=3&X-Amz-Signature=*** (Caused by …)"


@pytest.mark.parametrize(
    "name", ["token", "api_key", "apiKey", "authToken", "PASSWORD", "X-Goog-Credential", "sig", "jwt"]
)
def test_names_of_secret_parameters(name: str) -> None:
    assert is_secret(name)


def test_children_find_what_was_masked() -> None:
    url = "https://al%40ice:p%3Aw@example.org/a.en?token=T%261&v=1"
    masked = mask_for_children(url)
    assert masked == "https://example.org/a.en?token=***&v=1"
    assert with_secrets(masked) == url
    assert lacks_secrets(masked) == []


def test_a_url_whose_placeholders_are_filled_in_keeps_its_secrets() -> None:
    masked = mask_for_children("https://alice:hunter2@example.org/a.{source}?token=T1")
    pass_on(masked, masked.replace("{source}", "en"))
    assert with_secrets("https://example.org/a.en?token=***") == "https://alice:hunter2@example.org/a.en?token=T1"
    pass_on("https://example.org/b", "https://example.org/c?token=***")
    assert lacks_secrets("https://example.org/c?token=***") == ["token"]


def test_credentials_come_from_variables_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://data.example-1.org/a?token=***&v=1"
    assert lacks_secrets(url) == ["token"]
    monkeypatch.setenv("KD_QUERY_DATA_EXAMPLE_1_ORG", "token=T2")
    monkeypatch.setenv("KD_CREDENTIALS_DATA_EXAMPLE_1_ORG", "bob:s3cret")
    assert with_secrets(url) == "https://bob:s3cret@data.example-1.org/a?token=T2&v=1"


def test_urls_with_placeholders_are_masked_to_their_end() -> None:
    typed = 'a.source="https://alice:hunter2@h/a.{source}?token=T0P&v={target}", {"b": "http://h/{b}"}'
    assert mask_text(typed) == 'a.source="https://h/a.{source}?token=***&v={target}", {"b": "http://h/{b}"}'
    assert mask_text("{https://h/a?token=T0P}, https://h/{source}?token=T0P.") == (
        "{https://h/a?token=***}, https://h/{source}?token=***."
    )


def test_messages_are_scrubbed_of_secrets() -> None:
    url = "https://alice:hunter2@example.org/a?token=T0PSECRET"
    assert scrub("alice:hunter2 and /a?token=T0PSECRET, hunter2", url) == "*** and /a?token=***, ***"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://127.1.2.3/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://llm.localhost/v1", True),
        ("http://192.168.0.1/v1", False),
        ("https://localhost.example/v1", False),
        ("https://models.example/v1", False),
        ("no address", False),
    ],
)
def test_servers_on_this_computer_are_recognised(url: str, local: bool) -> None:
    assert is_local(url) is local
