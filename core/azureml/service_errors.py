"""Turns what the Azure libraries raise, and what a service answers, into the sentences of core.errors.

The sentences are in the tables of service_rules.py and sign_in_rules.py.
"""

from __future__ import annotations

import base64
import email.utils
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from core.azureml.failures import NO_ANSWER, NO_TOKEN, NOT_SENT, Failure, Place, Rule
from core.azureml.roles import read_refused_action, role_for
from core.azureml.service_rules import RULES
from core.errors import ServiceRefused, TunedeckError

_TAG = re.compile(r"""\btags\[\\*['"]?([^\]'"\\]+)""")  # "tags['costCentre']", as a policy names a tag
_CHALLENGE = r"claims-challenge ([\w+/=-]+)"


def service_exceptions() -> tuple[type[Exception], ...]:
    """Return what the Azure libraries raise; not imported before something has been raised."""
    from azure.core.exceptions import AzureError
    from marshmallow import ValidationError
    from requests import RequestException

    return AzureError, RequestException, ValidationError


def translate(error: Exception, place: Place, doing: str, what: str) -> TunedeckError:
    """Return the error an operator reads for one of the service_exceptions()."""
    return explain(read_failure(error), place, doing, what)


def explain(failure: Failure, place: Place, doing: str, what: str) -> TunedeckError:
    """Return the words of the first rule that fits; the last fits all."""
    words = {
        "service": place.service,
        "Service": capitalised(place.service),
        "workspace": place.workspace,
        "resource_group": place.resource_group,
        "subscription_id": place.subscription_id,
        "address": place.address,
        "doing": doing,
        "To_do": "To read" if doing == "read" else f"You may read here; to {doing}",
        "what": what,
        "What": capitalised(what),
        "message": _sentence(scrub(failure.message)) or f"it answered {failure.status}.",
        "status": str(failure.status),
        "pause": f"{failure.pause_s or 20:.0f}",
        **_words_of_quota(failure.message),
        **_words_of_tenants(failure.message),
        **_words_of_policy(failure.message),
        **_words_of_access(f"{failure.code} {failure.message}", doing, what),
    }
    rule = find_rule(failure, place)
    error = rule.error(rule.message.format_map(words), rule.hint.format_map(words), scrub(failure.detail))
    if isinstance(error, ServiceRefused):
        error.pause_s = failure.pause_s
    return error


def find_rule(failure: Failure, place: Place) -> Rule:
    """Return the first rule that fits; the last fits every failure."""
    return next(rule for rule in RULES if rule.fits(failure, place))


def read_failure(error: Exception) -> Failure:
    """Return what a library's exception says, whether a service answered or not."""
    import requests
    from azure.core import exceptions as core

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return read_answer(error.response.status_code, error.response.headers, error.response.text)
    if isinstance(error, requests.RequestException):
        return Failure(NO_ANSWER, message=str(error), detail=f"{type(error).__name__}: {error}")
    if isinstance(error, core.ClientAuthenticationError) and (error.response is None or "AADSTS" in str(error)):
        return read_refusal(str(error))
    if isinstance(error, core.HttpResponseError) and error.response is not None:
        return _failure_of_answer(error)
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, core.ServiceRequestError | core.ServiceResponseError):
        return Failure(NO_ANSWER, message=str(error), detail=detail)
    # What is left are the SDK's own checks, made before anything is sent.
    return Failure(NOT_SENT, type(error).__name__, str(getattr(error, "message", "") or error), detail)


def read_refusal(words: str) -> Failure:
    """Return what is said where there is no token; the code is that of the login host, where it gave one."""
    challenge = re.search(_CHALLENGE, words)
    codes = [_meaning_of(challenge[1])] if challenge else re.findall(r"AADSTS\d+", words)
    return Failure(NO_TOKEN, codes[0] if codes else "", words.splitlines()[0] if words else "", words)


def read_answer(status: int, headers: Mapping[str, str], body: str) -> Failure:
    """Return what an error answer says, in any of the envelopes Azure's services use."""
    code, message = _read_envelope(body)
    if status == 401 and (skew := _skew(headers)):
        code, message = f"{code} ClockSkew".strip(), f"{message} ({skew} minutes)"
    if status == 401 and (claims := read_challenge(headers)):
        code, message = f"{code} {_meaning_of(claims)}".strip(), f"{message} (claims-challenge {claims})"
    if "RequestDisallowedByPolicy" in code and (wanted := sorted(set(_TAG.findall(body)))):
        code, message = f"{code} WantsTags", f"{message} (tags: {', '.join(wanted)})"
    request_id = headers.get("x-ms-request-id") or headers.get("x-ms-correlation-request-id") or ""
    lines = [f"status {status}", f"code {code}" if code else "", f"request {request_id}" if request_id else "", body]
    return Failure(status, code, message, "\n".join(line for line in lines if line)[:6000], _pause(headers))


def read_challenge(headers: Mapping[str, str]) -> str:
    """Return what a service wants a token to prove, encoded as it is sent; "" where it wants nothing more."""
    found = re.search(r'claims="([^"]+)"', headers.get("WWW-Authenticate") or headers.get("www-authenticate") or "")
    return found[1] if found else ""


def decode_claims(encoded: str) -> str:
    """Return the JSON of a challenge, "" for what is none."""
    try:
        return base64.b64decode(encoded + "==").decode()
    except ValueError:
        return ""


def scrub(text: str) -> str:
    """Return `text` without tokens, signatures and keys."""
    text = re.sub(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "(token)", text)
    text = re.sub(r"(?i)(bearer|sharedkey)\s+\S+", r"\1 (hidden)", text)
    text = re.sub(r"(?i)\b(sig|token|AccountKey|SharedAccessSignature)=[^&;\s\"']+", r"\1=(hidden)", text)
    names = r"primaryKey|secondaryKey|key|sasToken|accessToken|access_token|refresh_token|password|secret"
    return re.sub(rf'(?i)("(?:{names})"\s*:\s*)"[^"]*"', r'\1"(hidden)"', text)


def capitalised(text: str) -> str:
    """Return `text` with its first letter large; the rest may hold names and stays."""
    return text[:1].upper() + text[1:]


def _failure_of_answer(error: Any) -> Failure:
    try:
        body = error.response.text()
    except (AttributeError, ValueError):  # a streamed answer that was not read
        body = error.message or ""
    found = read_answer(error.status_code or error.response.status_code, error.response.headers or {}, body)
    # A long-running operation that failed was polled with 200: its words are in the exception only.
    code = found.code or str(getattr(error.error, "code", "") or "") or _code_in(str(error.message))
    message = found.message or str(getattr(error.error, "message", "") or error.message or "")
    detail = found.detail if found.code else f"{found.detail}\n{error}"
    return Failure(found.status, code, message, detail, found.pause_s)


def _read_envelope(body: str) -> tuple[str, str]:
    try:
        answer = json.loads(body)
    except ValueError:
        return "", " ".join(re.sub(r"<[^>]+>", " ", body).split())[:300]
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    if not isinstance(error, dict):
        return "", str(error)
    codes, inner = [str(error.get("code") or "")], error.get("innerError") or error.get("innererror")
    while isinstance(inner, dict):
        codes.append(str(inner.get("code") or ""))
        inner = inner.get("innerError") or inner.get("innererror")
    details = [str(one.get("message") or "") for one in error.get("details") or [] if isinstance(one, dict)]
    codes += [str(one.get("code") or "") for one in error.get("details") or [] if isinstance(one, dict)]
    message = str(error.get("message") or "")
    more = (one for one in details if one not in message)
    return " ".join(code for code in codes if code), " ".join([message, *more])


def _code_in(message: str) -> str:
    found = re.match(r"\((\w+)\)", message)
    return found.group(1) if found else ""


def _pause(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds the service asks to wait: it says seconds, or a date by its own clock."""
    wanted = headers.get("Retry-After") or headers.get("retry-after") or ""
    if wanted.strip().isdecimal():
        return float(wanted)
    until = email.utils.parsedate_tz(wanted)
    now = email.utils.parsedate_tz(headers.get("Date") or headers.get("date") or "")
    if until is None:
        return None
    return max(0.0, email.utils.mktime_tz(until) - (email.utils.mktime_tz(now) if now else time.time()))


def _skew(headers: Mapping[str, str]) -> int:
    """Return by how many minutes the service's clock differs from this machine's, 0 below the five that are allowed."""
    told = email.utils.parsedate_tz(headers.get("Date") or headers.get("date") or "")
    minutes = abs(email.utils.mktime_tz(told) - time.time()) / 60 if told else 0.0
    return round(minutes) if minutes > 5 else 0


def _meaning_of(claims: str) -> str:
    """Return what a challenge asks for, as a code: a token made after a time, else a stronger sign-in."""
    return "TokenRevoked" if '"nbf"' in decode_claims(claims) else "insufficient_claims"


def _words_of_policy(message: str) -> dict[str, str]:
    found = re.search(r'policyAssignment"?:\s*\{\s*"name"\s*:\s*"([^"]+)"', message)
    skew, wanted = re.search(r"\((\d+) minutes\)", message), re.search(r"\(tags: ([^)]+)\)", message)
    return {
        "policy": f": {found[1]}" if found else "",
        "skew": skew[1] if skew else "many",
        "wanted_tags": f": {wanted[1]}" if wanted else "",
    }


def _words_of_access(said: str, doing: str, what: str) -> dict[str, str]:
    """Return what somebody lacks: a role, a provider, a second factor."""
    who = re.search(r"client '([^']+)' with object id '([^']+)'", said)
    name = who and (who[1] if "@" in who[1] else f"object {who[2]}")
    provider, claims = re.search(r"Microsoft\.\w+", said), re.search(_CHALLENGE, said)
    return {
        "role": role_for(read_refused_action(said, doing, what)),
        "for_whom": f", for {name}" if name else "",
        "provider": provider[0] if provider else "Microsoft.MachineLearningServices",
        "login": f"az login --claims-challenge {claims[1]}" if claims else "az logout`, then `az login",
    }


def _words_of_quota(message: str) -> dict[str, str]:
    found = re.search(
        r"(?:Standard )?(\S+) (?:family )?vCPU quota of (\d+) .*maps to (\d+) vCPUs", message, re.IGNORECASE
    )
    if found:
        return {"family": found[1], "free": found[2], "needed": found[3]}
    pattern = r"quota available for (\S+) .*usage/limit: (\d+)/(\d+)\. Additional needed: (\d+)"
    if not (found := re.search(pattern, message, re.IGNORECASE)):
        return {}
    free = max(0, int(found[3]) - int(found[2]))
    return {"quota_size": found[1], "quota_free": str(free), "quota_limit": found[3], "quota_needed": found[4]}


def _words_of_tenants(message: str) -> dict[str, str]:
    found = re.findall(r"sts\.windows\.net/([\w-]+)", message)
    return {"tenant": found[0], "wanted_tenant": found[1]} if len(found) > 1 else {}


def _sentence(message: str) -> str:
    """Return the first sentence or two of a service's message, ended by a full stop."""
    text = " ".join(re.sub(r"^\(\w+\)\s*", "", message).split("\nCode:")[0].split())
    if len(text) > 300:
        text = text[:300].rsplit(" ", 1)[0] + " …"
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."
