"""What services and the login host say of each cause, and what the operator reads: it provokes the error table."""

from __future__ import annotations

import base64
import email.utils
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core import errors

Test = TypeVar("Test", bound=Callable[..., None])
ML = "Microsoft.MachineLearningServices"
EXPIRED = "The sign-in has expired."
NO_TENANT = "There is no tenant of that id or name."
MANAGED_DEVICE = "Your company's policy wants a device that it manages for this sign-in."

# What the login host says of a refused sign-in, as in its reference of codes -> what the operator reads.
REFUSALS = {
    "AADSTS700082: The refresh token has expired due to inactivity.": EXPIRED,
    "AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks.": EXPIRED,
    "AADSTS50173: The provided grant has expired due to it being revoked.": "The sign-in was ended, as after a change",
    "AADSTS7000215: Invalid client secret provided.": "The secret in AZURE_CLIENT_SECRET is not the application's.",
    "AADSTS7000222: The provided client secret keys are expired.": "The secret in AZURE_CLIENT_SECRET has expired.",
    "AADSTS700016: Application with identifier was not found in the directory.": "The application of AZURE_CLIENT_ID",
    "AADSTS90002: Tenant not found.": NO_TENANT,
    "AADSTS70020: The provided value for the input parameter 'device_code' is expired.": "The code ran out",
    "AADSTS53003: Access has been blocked by Conditional Access policies.": "Your company's policy (conditional",
    "AADSTS53000: Device is not in required device state: compliant.": MANAGED_DEVICE,
    "AADSTS50005: User tried to log in to a device from a platform not supported.": "Your company's policy does not",
    "AADSTS65001: The user or administrator has not consented to use the application.": "Your company has not agreed",
    "AADSTS50076: You must use multi-factor authentication to access the resource.": "Azure asks for a second factor",
    "AADSTS50020: User account from identity provider does not exist in tenant.": "Your account is not known",
    "AADSTS50105: The signed in user is not assigned to a role for the application.": "Your account is not assigned",
    "AADSTS50057: The user account is disabled.": "Your account is switched off.",
    "AADSTS50055: The password is expired.": "Your password has expired.",
    "AADSTS50053: The account is locked, you've tried to sign in too many times.": "Your account is locked for a while",
    "AADSTS700027: The certificate used to sign the client assertion is not registered.": "The certificate in",
    "AADSTS700213: No matching federated identity record found for assertion.": "The application does not trust",
    "AADSTS500011: The resource principal was not found in the tenant.": "The sign-in is of another of Azure's clouds.",
    "AADSTS700024: Client assertion is not within its valid time range.": "The login host says that the time",
}


@dataclass(frozen=True)
class Cause:
    """One answer of a service to `create compute 'gpu-1'`, and what the operator reads of it."""

    status: int
    code: str
    message: str
    kind: type[errors.TunedeckError]
    read: str
    local: bool = False
    """Whether the local workspace answers so, and not Azure."""
    hint: str = ""
    """What the next step holds."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> str:
        return json.dumps({"error": {"code": self.code, "message": self.message}})

    def __str__(self) -> str:
        return f"{self.status}-{self.code}{'-local' if self.local else ''}"


def challenge(**claims: Any) -> dict[str, str]:
    """Return the header by which a service wants a token that proves more."""
    encoded = base64.b64encode(json.dumps({"access_token": claims}).encode()).decode()
    return {"WWW-Authenticate": f'Bearer realm="", error="insufficient_claims", claims="{encoded}"'}


def forbidden(action: str, role: str) -> Cause:
    """Return a refusal of an action, whose next step names the role that allows it."""
    said = (
        "The client 'ada@contoso.com' with object id 'ada' does not have authorization to perform action "
        f"'{action}' over scope '/subscriptions/x' or the scope is invalid."
    )
    next_step = f"for the role {role}, for ada@contoso.com."
    read = "You may not create compute 'gpu-1' in 'ml-dev'."
    return Cause(403, "AuthorizationFailed", said, errors.AccessDenied, read, hint=next_step)


MFA = challenge(acrs={"essential": True, "values": ["p1"]})
REVOKED = challenge(nbf={"essential": True, "value": "1764320000"})
AN_HOUR_AHEAD = {"Date": email.utils.formatdate(time.time() + 3600, usegmt=True)}
_QUOTA = (
    "The specified subscription has a Standard NCADSA100v4 family vCPU quota of 0 and cannot accomodate for at least 1 "
    "requested compute node which maps to 24 vCPUs."
)
_LOW_QUOTA = (
    "The specified subscription has a total vCPU quota of 0 and cannot accomodate for at least 1 requested managed "
    "compute node which maps to 4 vCPUs."
)
_NOT_LOW = "The VM size STANDARD_ND96ISR_H100_v5 is not allowed for LowPriority. Please convert to Dedicated."
_QUOTA_OF_SIZE = (
    '"VmSize":["Not enough quota available for Standard_F4s_v2 in SubscriptionId x. Current usage/limit: 2/6. '
    'Additional needed: 8 Please see the guide"]'
)
_ISSUERS = (
    "The access token is from the wrong issuer 'https://sts.windows.net/contoso/'. It must match the tenant "
    "'https://sts.windows.net/fabrikam/'."
)
_POLICY = 'Resource \'gpu-1\' was disallowed by policy. Policy identifiers: \'[{"policyAssignment":{"name":"%s"}}]\'.'
_NO_PROVIDER = f"The subscription is not registered to use namespace '{ML}'. See https://aka.ms/rps-not-found."
_PRIVATE_LINK = "Access to workspace was denied based on workspace private link configuration."
_FIREWALL = "This request is not authorized to perform this operation."
_NO_DATA_ROLE = "This request is not authorized to perform this operation using this permission."
_NO_SECRET = "Caller is not authorized. Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'"
_NOT_ALLOWED = "You may not create compute 'gpu-1' in 'ml-dev'."
_PRIVATE = "'ml-dev' lets in only its private network: it refused this machine to create compute 'gpu-1'."
_SECOND_FACTOR = "You may read here; to create compute 'gpu-1' Azure asks for a second factor (MFA)."
CAUSES = (
    Cause(400, "ClusterMinNodesExceedCoreQuota", _QUOTA, errors.QuotaExceeded, "Quota for NCADSA100v4: needs 24 cores"),
    Cause(
        400,
        "ClusterMinNodesExceedCoreQuota",
        _LOW_QUOTA,
        errors.QuotaExceeded,
        "Quota for all low-priority",
    ),
    Cause(400, "UnsupportedVMSizeForLowPriority", _NOT_LOW, errors.ServiceRefused, "This size is not to be had at low"),
    Cause(400, "BadRequest", _QUOTA_OF_SIZE, errors.QuotaExceeded, "Quota for Standard_F4s_v2: needs 8 cores, 4 free"),
    Cause(400, "OutOfQuota", "Not enough quota.", errors.QuotaExceeded, "There is not enough quota to create compute"),
    Cause(409, "OutOfCapacity", "No GPU.", errors.ServiceRefused, "There is no free machine to create compute 'gpu-1'"),
    Cause(
        401,
        "InvalidAuthenticationTokenTenant",
        _ISSUERS,
        errors.SignInFailed,
        "The sign-in is for tenant 'contoso'; this workspace is in 'fabrikam'.",
    ),
    Cause(401, "ExpiredAuthenticationToken", "It is earlier.", errors.SignInFailed, EXPIRED),
    Cause(
        401,
        "ExpiredAuthenticationToken",
        "The access token expiry UTC time is earlier.",
        errors.SignInFailed,
        "This machine's clock is ",
        headers=AN_HOUR_AHEAD,
    ),
    Cause(
        401,
        "ExpiredAuthenticationToken",
        "The access token has expired.",
        errors.SignInFailed,
        "The local workspace on 127.0.0.1:",
        local=True,
        hint="each token is made anew",
    ),
    Cause(401, "AuthenticationFailed", "bad", errors.SignInFailed, "Azure did not accept the sign-in (401)."),
    Cause(
        401,
        "AuthenticationFailed",
        "bad",
        errors.SignInFailed,
        "The local workspace on 127.0.0.1:",
        local=True,
        hint="Another home may be served there",
    ),
    Cause(
        401,
        "RequestDisallowedByPolicy",
        "Resource 'gpu-1' was disallowed by policy. Reasons: MFA is required.",
        errors.SignInFailed,
        _SECOND_FACTOR,
        hint="az login --claims-challenge eyJ",
        headers=MFA,
    ),
    Cause(
        403,
        "RequestDisallowedByAzure",
        "Users must authenticate through multi-factor authentication to create or update resources.",
        errors.SignInFailed,
        _SECOND_FACTOR,
        hint="`az logout`, then `az login`",
    ),
    Cause(
        401, "", "", errors.SignInFailed, "The sign-in was ended, as after a change of the password.", headers=REVOKED
    ),
    Cause(
        404,
        "SubscriptionNotFound",
        "The subscription 'sub-1' could not be found.",
        errors.NotFound,
        "Subscription '5c1e7d90-3f42-4a6b-8e15-9d0b2c4f6a81' was not found, or you have no role in it.",
    ),
    Cause(
        409,
        "MissingSubscriptionRegistration",
        _NO_PROVIDER,
        errors.ServiceRefused,
        f"The resource provider {ML} is not registered in subscription",
        hint=f"az provider register --namespace {ML} --subscription 5c1e7d90",
    ),
    Cause(403, "UserError", _PRIVATE_LINK, errors.AccessDenied, _PRIVATE, hint="join it by VPN"),
    Cause(403, "Forbidden", "Public network access is disabled.", errors.AccessDenied, _PRIVATE),
    Cause(403, "AuthorizationFailure", _FIREWALL, errors.AccessDenied, _PRIVATE),
    Cause(403, "RequestDisallowedByPolicy", _POLICY % "Sizes", errors.AccessDenied, "A policy of your company does"),
    Cause(
        403,
        "RequestDisallowedByPolicy",
        _POLICY % "Require a tag",
        errors.AccessDenied,
        "A policy of your company wants tags on what is made here. It refused to create compute",
    ),
    Cause(409, "ScopeLocked", "Scope(s) are locked.", errors.AccessDenied, "A lock on the resource group or the"),
    forbidden(f"{ML}/workspaces/jobs/write", "AzureML Data Scientist"),
    forbidden(f"{ML}/workspaces/onlineEndpoints/write", "AzureML Data Scientist"),
    forbidden(f"{ML}/workspaces/onlineEndpoints/delete", "AzureML Data Scientist"),
    forbidden(f"{ML}/workspaces/jobs/read", "Reader"),
    forbidden(f"{ML}/workspaces/computes/write", "AzureML Compute Operator, or Contributor"),
    forbidden(f"{ML}/workspaces/computes/delete", "AzureML Compute Operator, or Contributor"),
    forbidden(f"{ML}/workspaces/write", "Contributor"),
    forbidden(f"{ML}/registries/assets/read", "AzureML Registry User on the registry"),
    forbidden(f"{ML}/locations/usages/read", "Reader on the subscription"),
    forbidden("Microsoft.Insights/metrics/read", "Monitoring Reader"),
    forbidden(
        "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", "Managed Identity Operator on the identity"
    ),
    Cause(
        403,
        "AuthorizationPermissionMismatch",
        _NO_DATA_ROLE,
        errors.AccessDenied,
        _NOT_ALLOWED,
        hint="Storage Blob Data Contributor on its storage account",
    ),
    Cause(
        403,
        "UnAuthorizedRegistryAccess",
        "The tenant is not allowed to access registry azureml-x.",
        errors.AccessDenied,
        "Compute 'gpu-1' is not open to this tenant or subscription.",
    ),
    Cause(403, "ForbiddenByRbac", _NO_SECRET, errors.AccessDenied, _NOT_ALLOWED, hint="Key Vault Secrets User"),
    Cause(403, "Forbidden", "No.", errors.AccessDenied, _NOT_ALLOWED, hint="AzureML Compute Operator"),
    Cause(
        404,
        "ResourceGroupNotFound",
        "Resource group 'rg-ml' could not be found.",
        errors.NotFound,
        "Resource group 'rg-ml' was not found in subscription",
    ),
    Cause(
        404,
        "ResourceNotFound",
        f"The Resource '{ML}/workspaces/ml-dev' under resource group 'rg-ml' was not found.",
        errors.NotFound,
        "Workspace 'ml-dev' was not found in resource group 'rg-ml'.",
    ),
    Cause(
        404,
        "ResourceNotFound",
        f"The Resource '{ML}/workspaces/ml-dev/computes/gpu-1' was not found.",
        errors.NotFound,
        "Compute 'gpu-1' was not found in workspace 'ml-dev'.",
    ),
    Cause(409, "Conflict", "busy", errors.Conflict, "Compute 'gpu-1' is there already, or something"),
    Cause(412, "PreconditionFailed", "etag", errors.Conflict, "Compute 'gpu-1' was changed by someone else"),
    Cause(429, "TooManyRequests", "slow down", errors.Throttled, "Azure asks for a pause (429).", hint="waits 20 s"),
    Cause(
        429,
        "TooManyRequests",
        "slow down",
        errors.Throttled,
        "Azure asks for a pause (429).",
        hint="waits 7 s",
        headers={"Retry-After": "7"},
    ),
    Cause(
        400,
        "InvalidPropertyValue",
        "The size 'x' is not available",
        errors.ServiceRefused,
        "Azure refused to create compute 'gpu-1': The size 'x' is not available.",
    ),
    Cause(501, "NotImplemented", "x", errors.ServiceRefused, "The local workspace does not know how to", local=True),
    Cause(503, "ServiceUnavailable", "later", errors.ServiceFailed, "Azure failed to create compute 'gpu-1' (503)."),
)

# The sentences that only a test of their own provokes: (message, the next step's beginning) of a row of the table.
PROVOKED: set[tuple[str, str]] = set()


def provokes(message: str, hint: str = "") -> Callable[[Test], Test]:
    """Say that a test provokes a row of the table over the wire. hint: where rows differ in that alone."""
    PROVOKED.add((message, hint))
    return lambda test: test
