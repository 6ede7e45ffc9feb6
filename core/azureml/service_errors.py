"""Turns what the Azure libraries raise, and what a service answers, into the sentences of core.errors.

One table, read from the top: the first rule whose status and code fit gives the error's class and words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import (
    AccessDenied,
    BadInput,
    Conflict,
    LocalWorkspaceDown,
    NotFound,
    QuotaExceeded,
    ServiceFailed,
    ServiceRefused,
    SignInFailed,
    Throttled,
    TunedeckError,
    Unreachable,
)

NO_ANSWER = 0  # "status" of a request that never got one
NO_TOKEN = -1  # "status" where no credential gave a token
NOT_SENT = -2  # "status" of what the SDK itself refused to send


@dataclass(frozen=True)
class Place:
    """Words about where a call went. `service` is "Azure" or "the local workspace"."""

    service: str
    workspace: str
    resource_group: str
    subscription_id: str
    address: str
    is_local: bool


@dataclass(frozen=True)
class Failure:
    """What is known of a failed call, whichever library reported it. `code` joins the answer's codes."""

    status: int
    code: str = ""
    message: str = ""
    detail: str = ""
    pause_s: float | None = None


@dataclass(frozen=True)
class Rule:
    """Words for some failures. statuses () fits any; `code` is searched in the codes and the message, case ignored."""

    error: type[TunedeckError]
    message: str
    hint: str
    statuses: tuple[int, ...] = ()
    code: str = ""
    local: bool | None = None

    def fits(self, failure: Failure, place: Place) -> bool:
        """Tell whether this rule speaks of that failure."""
        if self.statuses and failure.status not in self.statuses:
            return False
        if self.local is not None and self.local is not place.is_local:
            return False
        code = self.code.replace("{workspace}", re.escape(place.workspace))
        return not code or bool(re.search(code, f"{failure.code} {failure.message}", re.IGNORECASE))


_QUOTA = r"quota|ClusterMinNodesExceed"
RULES: tuple[Rule, ...] = (
    Rule(
        Unreachable,
        "The connection to {service} ended before it answered.",
        "Read again, and look whether the change was made before you repeat it.",
        (NO_ANSWER,),
        code=r"Connection aborted|ConnectionReset|RemoteDisconnected|IncompleteRead|Connection broken",
    ),
    Rule(
        LocalWorkspaceDown,
        "The local workspace does not answer on {address}.",
        "Start it: `python -m core.local serve`. Runs and data are kept.",
        (NO_ANSWER,),
        local=True,
    ),
    Rule(
        Unreachable,
        "Azure does not answer ({address}).",
        "Check the network of this machine, then read again. Nothing is lost.",
        (NO_ANSWER,),
    ),
    Rule(
        QuotaExceeded,
        "Quota for {family}: needs {needed} cores, {free} free.",
        "Ask for quota, or pick a size of another family.",
        code=r"family vCPU quota of \d+ .*maps to \d+ vCPUs",
    ),
    Rule(
        QuotaExceeded,
        "Quota for {quota_size}: needs {quota_needed} cores, {quota_free} free of {quota_limit}.",
        "Delete a deployment that is not used, pick a smaller size, or ask for quota.",
        code=r"quota available for \S+ .*usage/limit: \d+/\d+\. Additional needed: \d+",
    ),
    Rule(
        QuotaExceeded,
        "There is not enough quota to {doing} {what}.",
        "Ask for quota, pick a smaller size, or delete what is not used.",
        code=_QUOTA,
    ),
    Rule(
        ServiceRefused,
        "There is no free machine to {doing} {what}.",
        "Try again in some minutes, or pick another size or region.",
        code=r"OutOfCapacity|AllocationFailed|SkuNotAvailable",
    ),
    Rule(
        ServiceRefused,
        "The image for {what} could not be built.",
        "Read its build log, then try again.",
        code=r"ImageBuildFailure",
        local=True,
    ),
    Rule(
        ServiceRefused,
        "The image for {what} could not be built.",
        "Read its build log. If the registry refused, run `az ml workspace sync-keys`; then try again.",
        code=r"ImageBuildFailure",
    ),
    Rule(
        ServiceRefused,
        "The container of {what} did not come up: {message}",
        "Read its log. Delete this deployment, then take a larger size or wait longer before the first probe.",
        code=r"ResourceNotReady",
    ),
    Rule(
        SignInFailed,
        "The sign-in is for tenant '{tenant}'; this workspace is in '{wanted_tenant}'.",
        "Run `az login --tenant {wanted_tenant}`, then check again.",
        code=r"InvalidAuthenticationTokenTenant.*wrong issuer .*sts\.windows\.net.*sts\.windows\.net",
    ),
    Rule(
        SignInFailed,
        "The sign-in has expired.",
        "Sign in again. Runs and endpoints are not affected.",
        (401,),
        code=r"Expired",
        local=False,
    ),
    Rule(
        SignInFailed,
        "The local workspace on {address} says that this home's token has expired (401).",
        "Read again: each token is made anew. If it stays so, look at this machine's clock.",
        (401,),
        code=r"ExpiredAuth",
        local=True,
    ),
    Rule(
        SignInFailed,
        "The local workspace on {address} did not accept this home's token (401).",
        "Another home may be served there. Check TUNEDECK_HOME, then start it again: `python -m core.local serve`.",
        (401,),
        local=True,
    ),
    Rule(
        SignInFailed,
        "Azure did not accept the sign-in (401).",
        "Sign in again.",
        (401,),
    ),
    Rule(
        SignInFailed,
        "The credential of '{workspace}' was asked for a token of another cloud. Nothing was sent.",
        "Connect the workspace again.",
        (NO_TOKEN,),
        code=r"asked of the credential of",
    ),
    Rule(
        SignInFailed,
        "No sign-in for Azure was found on this machine.",
        "Run `az login`, or sign in with the browser or a device code.",
        (NO_TOKEN,),
    ),
    Rule(
        NotFound,
        "Subscription '{subscription_id}' was not found, or you have no role in it.",
        "Check the id, and the tenant you are signed in to.",
        (400, 403, 404),
        code=r"SubscriptionNotFound|InvalidSubscriptionId",
    ),
    Rule(
        AccessDenied,
        "You may not {doing} {what} in '{workspace}'.",
        "Ask its owner for the role AzureML Compute Operator, or Contributor.",  # AzureML Data Scientist leaves it out
        (403,),
        code=r"workspaces/computes/(write|delete)",
    ),
    Rule(
        AccessDenied,
        "You may not {doing} {what} in '{workspace}'.",
        "Ask its owner for the role Monitoring Reader.",
        (403,),
        code=r"Microsoft\.Insights/metrics/read",
    ),
    Rule(
        AccessDenied,
        "You may not {doing} {what} in '{workspace}'.",
        "Ask its owner for the role AzureML Data Scientist.",
        (403,),
    ),
    Rule(
        NotFound,
        "Resource group '{resource_group}' was not found in subscription '{subscription_id}'.",
        "Check the name and the subscription.",
        (404,),
        code=r"ResourceGroupNotFound",
    ),
    Rule(
        NotFound,
        "Workspace '{workspace}' was not found in resource group '{resource_group}'.",
        "Check the name.",
        (404,),
        code=r"/workspaces/{workspace}'|workspace '?{workspace}'? (was|could) not",
    ),
    Rule(
        NotFound,
        "{What} was not found in workspace '{workspace}'.",
        "It may have been deleted. Pick another.",
        (404,),
    ),
    Rule(
        Conflict,
        "{What} is there already, or something else uses it (409).",
        "Look at what is there, then try again or choose another name.",
        (409,),
    ),
    Rule(
        Conflict,
        "{What} was changed by someone else in the meantime (412).",
        "Read it again, then repeat the change.",
        (412,),
    ),
    Rule(
        Throttled,
        "{Service} asks for a pause (429).",
        "Tunedeck waits {pause} s and reads again. Nothing is lost.",
        (429,),
    ),
    Rule(
        BadInput,
        "{What} cannot be sent as it is: {message}",
        "Change what it names, then try again.",
        (NOT_SENT,),
    ),
    Rule(
        ServiceRefused,
        "{Service} refused to {doing} {what}: {message}",
        "Change what it names, then try again.",
        (400, 405, 413, 422),
    ),
    Rule(
        ServiceRefused,
        "{Service} does not know how to {doing} {what} (501).",
        "This needs another version of the service.",
        (501,),
    ),
    Rule(
        ServiceFailed,
        "{Service} failed to {doing} {what} ({status}).",
        "Try again in a minute. If it stays, the request id is in the details.",
        (408, 500, 502, 503, 504),
    ),
    Rule(
        ServiceRefused,
        "{Service} could not {doing} {what}: {message}",
        "The details hold the service's own words.",
    ),
)


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
        "what": what,
        "What": capitalised(what),
        "message": _sentence(scrub(failure.message)) or f"it answered {failure.status}.",
        "status": str(failure.status),
        "pause": f"{failure.pause_s or 20:.0f}",
        **_words_of_quota(failure.message),
        **_words_of_tenants(failure.message),
    }
    rule = find_rule(failure, place)
    return rule.error(rule.message.format_map(words), rule.hint.format_map(words), scrub(failure.detail))


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
    codes = re.findall(r"AADSTS\d+", words)
    return Failure(NO_TOKEN, codes[0] if codes else "", words.splitlines()[0] if words else "", words)


def refuses_device_code(words: str) -> bool:
    """Tell whether these words of the login host are a policy that no device code can satisfy."""
    return bool(re.search(r"AADSTS(53003|53000|50005)\b", words))


def read_answer(status: int, headers: Mapping[str, str], body: str) -> Failure:
    """Return what an error answer says, in any of the envelopes Azure's services use."""
    code, message = _read_envelope(body)
    request_id = headers.get("x-ms-request-id") or headers.get("x-ms-correlation-request-id") or ""
    lines = [f"status {status}", f"code {code}" if code else "", f"request {request_id}" if request_id else "", body]
    return Failure(status, code, message, "\n".join(line for line in lines if line)[:6000], _pause(headers))


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
    try:
        return float(headers.get("Retry-After") or headers.get("retry-after") or "")
    except ValueError:
        return None


def _words_of_quota(message: str) -> dict[str, str]:
    found = re.search(
        r"(?:a |total )?(?:Standard )?(\S+) family vCPU quota of (\d+) .*maps to (\d+) vCPUs", message, re.IGNORECASE
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
