"""What must not be told: secrets are taken out of what is kept in a run's folder."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH", re.IGNORECASE)
_PATTERNS = (
    re.compile(rb"(?<=://)[^/\s@]+(?=@)"),
    re.compile(rb"(?i)(?P<before>bearer |authorization\W{1,5}basic )[\w.~+/=-]{8,}"),
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END|\Z)", re.DOTALL),
    # Its beginning is cut off.
    re.compile(rb"\A[\w+/=\s]+(?=-----END [A-Z ]*PRIVATE KEY)", re.ASCII),
    # Of a URL's query.
    re.compile(
        rb"(?i)(?P<before>[?&](?:[\w-]*signature|sig|\w*token|(?:api_?)?key|password|AWSAccessKeyId)=)"
        rb"[^&\s\"']+"
    ),
    re.compile(rb"\bgh[pousr]_\w{20,}"),
    # As somebody writes it down.
    re.compile(
        rb"(?i)(?P<before>\b\w*(?:password|passwd|secret|api_?key)\\?[\"']?\s*[:=]\s*\\?[\"']?)"
        rb"[^\s\"'\\,;&}]{4,}"
    ),
)
# Halves of characters, as JSON may have them, which no encoding takes.
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# A shorter value would stand in many a word.
_LEAST_LENGTH = 8
_HIDDEN = b"***"


def redacted(text: bytes, environ: Mapping[str, str]) -> bytes:
    """The text without the values of variables that are named like secrets, keys in URLs' user
    parts, signatures and tokens in their queries, tokens, passwords and private keys.

    A value is found as it is, and as it stands in JSON or in a URL. A path that is there, as of a
    file with a secret in it, is none.
    """
    for value in sorted(set(_values(environ)), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(_hidden, text)
    return text


def redacted_text(text: str, environ: Mapping[str, str]) -> str:
    """The same of a text that is no bytes yet."""
    text = _HALVES.sub("\ufffd", text)
    return redacted(text.encode(errors="surrogateescape"), environ).decode(errors="replace")


def _values(environ: Mapping[str, str]) -> Iterator[bytes]:
    for name, value in environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _LEAST_LENGTH and not _is_path(value):
            # What a variable's bytes cannot say in UTF-8 stands in it as surrogates.
            for form in (
                value,
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
            ):
                yield form.encode(errors="surrogateescape")
            yield quote(value, safe="", errors="surrogateescape").encode()


def _is_path(value: str) -> bool:
    # One secret in 64 of base64 begins with a slash, too; of one too long, Path.exists raises.
    return value.startswith("/") and os.path.exists(value)  # noqa: PTH110


def _hidden(found: re.Match[bytes]) -> bytes:
    return found.groupdict(b"").get("before", b"") + _HIDDEN
