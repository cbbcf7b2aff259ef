"""Keep user names, passwords and tokens of URLs out of configs, manifests, messages and logs.

A recipe's URLs are masked as soon as it is composed. When a file is fetched, the masked secrets are looked up in this
order: in the environment variable that the masking process left for its children; in `KD_CREDENTIALS_HOST`
(`user:password`) and `KD_QUERY_HOST` (`token=…&signature=…`), where HOST is the host's name in capitals, with `_` for
other characters; in `~/.netrc`, which requests reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
HTTP = ("http://", "https://")
# Query parameters that are secrets, by their names in lower case without other characters than letters and digits; a
# name may have more in front (`access_token`, `X-Amz-Signature`).
SECRET_ENDINGS = (
    "token", "auth", "authorization", "apikey", "secret", "signature", "sig", "password", "passwd", "pwd", "passphrase",
    "credential", "credentials", "session", "sessionid", "sid", "jwt", "bearer", "accesskeyid", "keypairid",
)  # fmt: skip
SECRET_NAMES = frozenset(("key", "pass", "user", "username", "login", "policy", "code"))
SECRET_BEGINNINGS = ("xamz", "xgoog", "xoss", "xcos")  # signed links: dates and expiry change with every signature
SIGNED = frozenset(("expires", "se", "st", "sp", "sv", "sr", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"))
_SIGNATURES = ("sig", "signature")
_LEFT, _LOGIN, _PARAMETERS = "KD_URL_", "KD_CREDENTIALS_", "KD_QUERY_"  # prefixes of environment variables
_SHORTEST = 6  # characters of a secret that is looked for in any text: a shorter one may be a part of a word
# A recipe's URL may have placeholders, such as {source}, and references, such as ${oc.env:TOKEN}.
_PLACEHOLDER = r"\$?\{[\w.:,]+\}"
_IN_TEXT = re.compile(
    rf"""https?://(?:{_PLACEHOLDER}|[^\s"'<>\\^`{{|}}\]])*(?:{_PLACEHOLDER}|[^\s"'<>\\^`{{|}}\].,;:)])""", re.IGNORECASE
)
_REFERENCE = re.compile(r"\$\{[^}]*\}")
# What remains of a URL that a library reports in parts, and the login of a URL of another kind (ftp, s3).
_PARAMETER = re.compile(r"""([?&])([\w.%-]+)=([^\s&#"'<>()\[\]{},;]+)""")
_OTHER_LOGIN = re.compile(r"""\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#@:"'<>]*:[^\s/?#@"'<>]+@""", re.IGNORECASE)
# Endings of the names of environment variables whose values are secrets: HF_TOKEN, OPENAI_API_KEY.
_SECRET_VARIABLES = ("token", "apikey", "accesskey", "accesskeyid", "secret", "password", "passwd", "passphrase", "jwt")


class Secrets(NamedTuple):
    """The secrets of a URL: `user:password` as written, and the values of secret parameters by name."""

    login: str
    query: dict[str, str]


def is_secret(name: str) -> bool:
    """Return whether a query parameter is a secret, judged by its name."""
    bare = _bare(name)
    return bare in SECRET_NAMES or bare.endswith(SECRET_ENDINGS) or bare.startswith(SECRET_BEGINNINGS)


def split_secrets(url: str) -> tuple[str, Secrets]:
    """Return a URL without its secrets, and the secrets. Anything but an http(s) URL has none."""
    if not url.lower().startswith(HTTP):
        return url, Secrets("", {})
    address, hash_sign, fragment = url.partition("#")
    address, question, query = address.partition("?")
    scheme, _, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    login, _, host = place.rpartition("@")
    parts = [part.partition("=") for part in query.split("&")] if question else []
    signed = any(_bare(name).endswith(_SIGNATURES) for name, _, _ in parts)
    hidden = {
        name: value
        for name, _, value in parts
        if value != MASK and not _REFERENCE.fullmatch(value) and (is_secret(name) or (signed and _bare(name) in SIGNED))
    }
    shown = "&".join(f"{name}={MASK}" if name in hidden else f"{name}{sign}{value}" for name, sign, value in parts)
    return f"{scheme}://{host}{slash}{path}{question}{shown}{hash_sign}{fragment}", Secrets(login, hidden)


def mask(url: str) -> str:
    """Return a URL without its secrets."""
    return split_secrets(url)[0]


def mask_text(text: str) -> str:
    """Return a text, such as a message or a command line, with all its URLs masked."""
    if "://" in text:
        text = _IN_TEXT.sub(lambda match: mask(match[0]), text)
    return _OTHER_LOGIN.sub(r"\1", text) if "@" in text else text


def mask_output(text: str) -> str:
    """Return a text, such as a traceback, with all its URLs masked, and all secrets in this process's environment.

    A library may report a URL in parts (`Max retries exceeded with url: /a?token=…`), which `mask_text` does not find;
    it may also report the header with a token of the environment, such as HF_TOKEN.
    """
    values = {value for value in _in_environment() if len(value) >= _SHORTEST}
    found = _replaced(mask_text(text), values | {unquote(value) for value in values})
    return _PARAMETER.sub(lambda part: f"{part[1]}{part[2]}={MASK}" if is_secret(part[2]) else part[0], found)


def is_secret_variable(name: str) -> bool:
    """Return whether the value of an environment variable is a secret, judged by its name."""
    return _bare(name).endswith(_SECRET_VARIABLES)


def mask_for_children(url: str) -> str:
    """Return a URL without its secrets; store the secrets in the environment, for this process and its children."""
    masked, secrets = split_secrets(url)
    if secrets.login or secrets.query:
        os.environ[_variable(masked)] = json.dumps([secrets.login, secrets.query])
    return masked


def pass_on(url: str, other: str) -> None:
    """Make the secrets that were masked in a URL those of another one: the same with its placeholders filled in."""
    left = os.environ.get(_variable(mask(url)))
    if left is not None:
        os.environ.setdefault(_variable(mask(other)), left)


def with_secrets(url: str) -> str:
    """Return a URL with the user, password and parameters that were masked in it, as far as this computer has them."""
    masked, given = split_secrets(url)
    host = urlsplit(masked).hostname or ""
    known = _known(masked, host)
    login, query = given.login or known.login, {**known.query, **given.query}
    for name, value in query.items():
        masked = re.sub(rf"(?<=[?&])({re.escape(name)}=){re.escape(MASK)}", rf"\g<1>{_literal(value)}", masked)
    if login:
        user, colon, password = login.partition(":")
        shown = f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}"
        masked = masked.replace("://", f"://{shown}@", 1)
    return masked


def is_local(url: str) -> bool:
    """Return whether a server is on the computer that sends it requests."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def lacks_secrets(url: str) -> list[str]:
    """Return the names of a URL's masked parameters whose values this computer does not have."""
    return [name for name, _, value in (part.partition("=") for part in _query(with_secrets(url))) if value == MASK]


def scrub(text: str, url: str) -> str:
    """Return a message in which every occurrence of a URL's secrets is masked."""
    _, secrets = split_secrets(with_secrets(url))
    user, _, password = secrets.login.partition(":")
    values = {secrets.login, password, *secrets.query.values()}
    return _replaced(text, values | {unquote(value) for value in values} | ({user} if not password else set()))


def environment_hint(url: str) -> str:
    """Return a hint on how to provide credentials for a URL's host."""
    name = _host_name(urlsplit(mask(url)).hostname or "")
    login = f"Put user name and password into ~/.netrc, or set KD_CREDENTIALS_{name}=user:password."
    return f"{login} For parameters, set KD_QUERY_{name}='NAME=VALUE&NAME=VALUE'."


def _known(masked: str, host: str) -> Secrets:
    login, query = _left_for_children(masked)
    name = _host_name(host)
    pairs = (part.partition("=") for part in os.environ.get(_PARAMETERS + name, "").split("&"))
    of_host = {key: value for key, sign, value in pairs if sign}
    return Secrets(login or os.environ.get(_LOGIN + name, ""), {**of_host, **query})


def _in_environment() -> Iterator[str]:
    """Yield the passwords and parameters in the environment, and each `user:password`."""
    for name, value in os.environ.items():
        login = ""
        query: dict[str, str] = {}
        if name.startswith(_LEFT):
            login, query = _parsed(value)
        elif name.startswith(_LOGIN):
            login = value
        elif name.startswith(_PARAMETERS):
            query = dict(part.split("=", 1) for part in value.split("&") if "=" in part)
        elif is_secret_variable(name):
            query = {name: value.strip()}
        user, _, password = login.partition(":")
        yield from (login, password or user, *query.values())


def _left_for_children(masked: str) -> Secrets:
    return _parsed(os.environ.get(_variable(masked), ""))


def _parsed(value: str) -> Secrets:
    try:
        login, query = json.loads(value)
    except (ValueError, TypeError):
        return Secrets("", {})
    return Secrets(str(login), {str(name): str(secret) for name, secret in dict(query).items()})


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def _query(url: str) -> list[str]:
    return urlsplit(url).query.split("&")


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", unquote(name).lower())


def _host_name(host: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", host.upper())


def _variable(masked: str) -> str:
    return f"{_LEFT}{hashlib.sha256(masked.encode()).hexdigest()[:16].upper()}"


def _replaced(text: str, values: Iterable[str]) -> str:
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
