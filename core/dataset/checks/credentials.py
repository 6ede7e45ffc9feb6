"""Recognises keys, signed addresses and connection strings in a text; says which kind, and never what they are."""

from __future__ import annotations

import re
from itertools import islice

from core.dataset.checks.leftovers import line_around

_KEYS = {
    "an Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "an API key (sk-…)": r"\bsk-(?:proj-|or-v1-)?[A-Za-z0-9_-]{20,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a token of npm": r"\bnpm_[A-Za-z0-9]{36}\b",
    "a token of PyPI": r"\bpypi-AgE[A-Za-z0-9_-]{40,}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "a SendGrid key": r"\bSG\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{40,}",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
}
_ANY_KEY = re.compile("|".join(_KEYS.values()))

# A long value with letters and digits, behind a name of a secret. What is Shared… is a part of a connection string.
_VALUE = re.compile(r"[:=]\s?['\"]?(?=[A-Za-z+/_-]*\d)(?=[\d+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{32,}")
_SECRET = re.compile(r"(?i)(?<!shared)(?:secret|api|access|auth)[_-]?(?:key|token)['\"]?\s?\Z")

_SIGNATURE = re.compile(r"\bsig=[A-Za-z0-9%+/_-]{20,}")
_SIGNED = re.compile(r"(?:^|[?&;\s])(?:sv|se)=\w")
_NAME = 24  # characters before a value in which its name stands
_LOOKED_AT = 100  # passwords in one text
_ADDRESS = 600  # characters around a signature that can be of the same address

_ACCOUNT_KEY = re.compile(r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{20,}")
_PASSWORD = re.compile(r"(?:Password|Pwd)\s?=\s?['\"]?([^;\s'\"]{3,})", re.IGNORECASE)
_SERVER = re.compile(
    r"\b(?:Server|Data Source|Host|Hostname|Address|Addr|Initial Catalog|Database|User ID|Uid|DSN|Driver)\s?=\s?[^;\s]",
    re.IGNORECASE,
)
_LOGIN = re.compile(
    r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb|redis|rediss|amqps?|mssql|sqlserver|oracle|clickhouse|s?ftps?|smtps?|"
    r"https?)(?:\+[a-z0-9]+)?://[^\s:@/'\"]{0,80}:([^\s/'\"]{1,120})@([^\s:/?'\"@]{1,120})",
    re.IGNORECASE,
)
# What documentation writes where a password would stand.
_NO_PASSWORD = re.compile(r"[<{$%\[*]|x{3}|\.\.|…|your|\W*$", re.IGNORECASE)
_USUAL = re.compile(
    r"(?:my|the|db|user)?[_-]?(?:pass(?:word|wd)?|pwd|secret|postgres|root|guest)\d{0,3}", re.IGNORECASE
)
_NO_HOST = re.compile(r"localhost|127\.|host|server|db$|[<{$\[]", re.IGNORECASE)


def find_key(text: str) -> str:
    """Return what kind of key a text holds, "" if none."""
    if _ANY_KEY.search(text):
        return next(kind for kind, pattern in _KEYS.items() if re.search(pattern, text))
    values = (match.start() for match in _VALUE.finditer(text))
    return "a secret key" if any(_SECRET.search(text, max(0, at - _NAME), at) for at in values) else ""


def find_sas_token(text: str) -> str:
    """Return what is said of an address of Azure's that carries its own right of access, "" if there is none."""
    for match in _SIGNATURE.finditer(text):
        before = text[max(0, match.start() - _ADDRESS) : match.start()].split()[-1:]
        after = text[match.end() : match.end() + _ADDRESS].split(maxsplit=1)[:1]
        if _SIGNED.search("".join(before)) or _SIGNED.search("".join(after)):
            return "a signed address (SAS)"
    return ""


def find_connection_string(text: str) -> str:
    """Return what kind of connection string with its password or key a text holds, "" if none."""
    if _ACCOUNT_KEY.search(text):
        return "an account's key"
    if any(_is_login(match[1], match[2]) for match in _LOGIN.finditer(text)):
        return "an address with a password"
    for match in islice(_PASSWORD.finditer(text), _LOOKED_AT):
        line = line_around(text, match)
        if ";" in line and _SERVER.search(line) and _is_login(match[1], line):
            return "a connection string with a password"
    return ""


def _is_login(password: str, host: str) -> bool:
    """Tell a password from what stands for one in documentation."""
    if _NO_PASSWORD.match(password):
        return False
    return not (_USUAL.fullmatch(password) and _NO_HOST.match(host))
