"""Words for a sign-in that failed, by the login host's codes, and for what stands between this machine and Azure.

The codes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
"""

from __future__ import annotations

import re

from core.azureml.failures import NO_ANSWER, NO_TOKEN, Rule
from core.errors import AccessDenied, ServiceRefused, SignInFailed, TunedeckError, Unreachable

_BY_CLICK = "sign in with the browser or a code"
# AADSTS codes -> what happened, what to do.
_BY_CODE: tuple[tuple[tuple[int, ...], str, str], ...] = (
    ((700082, 70043, 70008, 50078), "The sign-in has expired.", f"Run `az login` again, or {_BY_CLICK}."),
    (
        (50173, 50132, 50133),
        "The sign-in was ended, as after a change of the password.",
        f"Run `az login` again, or {_BY_CLICK}.",
    ),
    (
        (7000215,),
        "The secret in AZURE_CLIENT_SECRET is not the application's.",
        "Set it to the secret's value, not to the secret's id, and start Tunedeck again.",
    ),
    (
        (7000222,),
        "The secret in AZURE_CLIENT_SECRET has expired.",
        "Make a new one at the application's registration, set it, and start Tunedeck again.",
    ),
    (
        (700016,),
        "The application of AZURE_CLIENT_ID is not known in this tenant.",
        "Check AZURE_CLIENT_ID and AZURE_TENANT_ID, or have an administrator of the tenant add it.",
    ),
    (
        (90002, 900023),
        "There is no tenant of that id or name.",
        "Check the tenant, in the form and in AZURE_TENANT_ID. `az account list` prints yours.",
    ),
    ((70019, 70020), "The code ran out before it was entered.", "Sign in with a code again: it gives a new one."),
    (
        (53003,),
        "Your company's policy (conditional access) blocks this sign-in.",
        "Sign in with the browser on a machine your company manages. A device code cannot satisfy the policy.",
    ),
    (
        (53000, 53001, 53002, 530003),
        "Your company's policy wants a device that it manages for this sign-in.",
        "Sign in with the browser on such a device. A device code cannot prove one.",
    ),
    (
        (50005,),
        "Your company's policy does not know the platform of this device.",
        "Sign in with the browser on a device it supports. A device code cannot prove one.",
    ),
    (
        (65001, 90094, 65004),
        "Your company has not agreed that this application acts for you.",
        "Ask an administrator of the tenant for consent, or run `az login`: the Azure CLI mostly has it.",
    ),
    (
        (50076, 50079, 50074, 50158),
        "Azure asks for a second factor (MFA) for this sign-in.",
        "Run `az login` again and confirm it, or sign in with the browser.",
    ),
    (
        (50020, 50034),
        "Your account is not known in this tenant.",
        "Check the tenant, or have its administrator invite the account as a guest.",
    ),
    ((50105,), "Your account is not assigned to this application.", "Ask an administrator of the tenant to assign it."),
    ((50057,), "Your account is switched off.", "Ask an administrator of the tenant."),
    (
        (500011, 900382, 900439),
        "The sign-in is of another of Azure's clouds.",
        "Choose the workspace's cloud. For the Azure CLI: `az cloud set --name` with its name, then `az login`.",
    ),
    (
        (50055, 50144),
        "Your password has expired.",
        "Change it where your company has it changed, then sign in again.",
    ),
    (
        (50053,),
        "Your account is locked for a while, or sign-ins from here are blocked, after too many tries.",
        "Wait for some minutes, or ask an administrator of the tenant.",
    ),
    (
        (700027,),
        "The certificate in AZURE_CLIENT_CERTIFICATE_PATH is not the application's.",
        "Add it at the application's registration, or set the path to one that is there, and start Tunedeck again.",
    ),
    (
        (700211, 700212, 700213, 70021),
        "The application does not trust this workload's token (federated identity).",
        "Hold issuer, subject and audience of its federated credential against the token's: the details name them.",
    ),
    (
        (700024, 50013),
        "The login host says that the time of this machine's proof is not now.",
        "Set this machine's clock (`timedatectl` shows it), then check again.",
    ),
)


def _of_codes(codes: tuple[int, ...], message: str, hint: str) -> Rule:
    return Rule(SignInFailed, message, hint, code=rf"AADSTS({'|'.join(str(code) for code in codes)})\b", local=False)


def _signed_in(message: str, hint: str, code: str, statuses: tuple[int, ...] = (NO_TOKEN,)) -> Rule:
    return Rule(SignInFailed, message, hint, statuses, code, local=False)


def _network(error: type[TunedeckError], message: str, hint: str, code: str) -> Rule:
    return Rule(error, message, hint, (NO_ANSWER, NO_TOKEN), code, local=False)


# A credential that gets no answer reports it in the words of the library beneath it, as a request does.
NETWORK: tuple[Rule, ...] = (
    _network(
        Unreachable,
        "The certificate of {address} is not valid at this machine's time.",
        "Set this machine's clock (`timedatectl` shows it), then check again.",
        r"certificate is not yet valid|certificate has expired",
    ),
    _network(
        Unreachable,
        "The certificate shown for {address} is of nobody this machine trusts: a company's proxy opens the connection.",
        "Set REQUESTS_CA_BUNDLE and SSL_CERT_FILE to a file with your company's root certificate beside the usual "
        "ones, and start Tunedeck again.",
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
    ),
    _network(
        Unreachable,
        "The proxy asks for a name and a password (407).",
        "Set HTTPS_PROXY to http://name:password@host:port, and start Tunedeck again.",
        r"407 Proxy|Tunnel connection failed: 407",
    ),
    _network(
        Unreachable,
        "The proxy of HTTPS_PROXY did not let the request to Azure through.",
        "Check HTTPS_PROXY and NO_PROXY, then start Tunedeck again.",
        r"ProxyError|Cannot connect to proxy|Unable to connect to proxy|Tunnel connection failed",
    ),
    _network(
        Unreachable,
        "The name of a host of Azure was not found (DNS).",
        "Check this machine's network. In a private network its DNS has to know Azure's private endpoints.",
        r"NameResolutionError|getaddrinfo failed|Name or service not known|Temporary failure in name resolution"
        r"|No address associated|Failed to resolve",
    ),
)
POLICIES: tuple[Rule, ...] = (
    _signed_in(
        "{To_do} {what} Azure asks for a second factor (MFA).",
        "Run `{login}` and confirm it, or sign in with the browser.",
        r"multi-?factor|\bMFA\b|claims.challenge|insufficient_claims",
        (NO_TOKEN, 401, 403),
    ),
    Rule(
        AccessDenied,
        "A policy of your company wants tags on what is made here{wanted_tags}. It refused to {doing} {what}{policy}.",
        "Write them in the field Tags of this workspace's connection, then try again. The details name the policy.",
        code=r"RequestDisallowedByPolicy.*(WantsTags|\btags?\b)",
        local=False,
    ),
    Rule(
        AccessDenied,
        "A policy of your company does not allow to {doing} {what}{policy}.",
        "Ask who looks after the subscription which sizes or regions it wants. The details name the policy.",
        code=r"RequestDisallowedByPolicy",
        local=False,
    ),
    Rule(
        ServiceRefused,
        "The resource provider {provider} is not registered in subscription '{subscription_id}'.",
        "Run `az provider register --namespace {provider} --subscription {subscription_id}`, or register it in the "
        "Azure portal: the subscription, Resource providers. It takes minutes, and Contributor on the subscription.",
        code=r"MissingSubscriptionRegistration|SubscriptionNotRegistered",
        local=False,
    ),
    Rule(
        AccessDenied,
        "'{workspace}' lets in only its private network: it refused this machine to {doing} {what}.",
        "Run Tunedeck on a machine in that network or join it by VPN; or have its owner allow public network access.",
        code=r"private link configuration|public (network )?access.{0,40}(disabled|not allowed|denied)"
        r"|approved private (link|endpoint)|ForbiddenByConnection|ForbiddenByFirewall|\bAuthorizationFailure\b",
        local=False,
    ),
    Rule(
        AccessDenied,
        "A lock on the resource group or the subscription keeps you from this: to {doing} {what}.",
        "Ask its owner to remove the lock: Locks in the Azure portal. The details name it.",
        code=r"ScopeLocked",
        local=False,
    ),
)
SIGN_IN: tuple[Rule, ...] = (
    *(_of_codes(*row) for row in _BY_CODE),
    _signed_in(*_BY_CODE[5][1:], code=r"check your tenant name or GUID|Invalid tenant id"),
    _signed_in(*_BY_CODE[1][1:], code=r"TokenRevoked", statuses=(NO_TOKEN, 401)),
    _signed_in(*_BY_CODE[6][1:], code=r"Timed out waiting for user"),
    _signed_in(
        "The sign-in was not finished in the browser.",
        "Sign in with the browser again, or with a code where this machine has no browser.",
        code=r"Failed to open a browser|Timed out after waiting|Couldn't start an HTTP server",
    ),
    _signed_in(
        "The sign-in failed.",
        f"To try again, {_BY_CLICK}. The details say what happened.",
        code=r"Authentication failed:",
    ),
    _signed_in("The sign-in has expired.", f"To go on, {_BY_CLICK}.", code=r"Interactive authentication is required"),
    _signed_in(
        "This machine's clock is {skew} minutes from Azure's: no sign-in is good at such a time.",
        "Set this machine's clock (`timedatectl` shows it), then check again.",
        code=r"ClockSkew",
        statuses=(401,),
    ),
)
_NO_DEVICE_CODE = (53003, 53000, 50005)


def refuses_device_code(words: str) -> bool:
    """Tell whether these words of the login host are a policy that no device code can satisfy."""
    return any(re.search(rf"AADSTS{code}\b", words) for code in _NO_DEVICE_CODE)
