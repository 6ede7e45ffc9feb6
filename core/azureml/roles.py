"""Azure's roles: what an operator does here takes which actions, and the smallest built-in role that allows an action.

The roles: https://learn.microsoft.com/azure/machine-learning/how-to-assign-roles. It does not know who has which.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORKSPACE = "Microsoft.MachineLearningServices/workspaces/"
# What an operator does -> the actions it takes, below a workspace.
ACTIONS: dict[str, tuple[str, ...]] = {
    "Read": ("jobs/read", "computes/read", "onlineEndpoints/read"),
    "Start runs": ("jobs/write", "data/versions/write"),
    "Register models": ("models/versions/write",),
    "Deploy": ("onlineEndpoints/write", "onlineEndpoints/deployments/write"),
    "Chat": ("onlineEndpoints/listKeys/action",),
    "Create compute": ("computes/write",),
    "Delete endpoints": ("onlineEndpoints/delete", "onlineEndpoints/deployments/delete"),
    "Delete compute": ("computes/delete",),
    "Sweep what is due": (
        "onlineEndpoints/read",
        "onlineEndpoints/delete",
        "computes/read",
        "computes/delete",
        "jobs/read",
    ),
}
# A refused action, or what stands for one -> the role to ask for, and where it is given.
_ROLES = (
    (r"workspaces/computes?/(write|delete|listKeys)", "AzureML Compute Operator, or Contributor"),
    (r"workspaces/(hubs/|featurestores/)?(write|delete|listKeys)", "Contributor"),
    (r"Resources/tags/write", "Tag Contributor"),
    (r"registries/.*read$", "AzureML Registry User on the registry"),
    (r"Insights/.*read$", "Monitoring Reader"),
    (r"Storage/.*blobs?/read$", "Storage Blob Data Reader on its storage account"),
    (r"Storage/.*blobs?/", "Storage Blob Data Contributor on its storage account"),
    (r"KeyVault/.*(read|get|list)", "Key Vault Secrets User on its key vault"),
    (r"KeyVault/", "Key Vault Secrets Officer on its key vault"),
    (r"ContainerRegistry/.*(read|pull)", "AcrPull on its container registry"),
    (r"ContainerRegistry/", "AcrPush on its container registry"),
    (r"ManagedIdentity/.*assign", "Managed Identity Operator on the identity"),
    (r"roleAssignments/write", "Role Based Access Control Administrator"),
    (r"/register/action", "Contributor on the subscription"),
    (r"locations/.*read$|subscriptions/.*read$", "Reader on the subscription"),
    (r"read$", "Reader"),
    (r"", "AzureML Data Scientist"),
)


def role_for(action: str) -> str:
    """Return the smallest built-in role that allows an action, with where it is given if that is not the workspace."""
    return next(role for pattern, role in _ROLES if re.search(pattern, action, re.IGNORECASE))


def read_refused_action(said: str, doing: str, what: str) -> str:
    """Return the action that a 403 names, or the form of one made from what was done where it names none."""
    if named := re.findall(r"action:? '(Microsoft\.[^']+)'", said, re.IGNORECASE):
        return str(named[-1])  # of a linked resource, where there are two
    verb = {"read": "read", "delete": "delete"}.get(doing, "write")
    if re.search(r"AuthorizationPermissionMismatch|KeyBasedAuthenticationNotPermitted", said):
        return f"Microsoft.Storage/blobs/{verb}"
    if re.search(r"ForbiddenByRbac|ForbiddenByPolicy", said):
        return f"Microsoft.KeyVault/secrets/{verb}"
    return f"{_WORKSPACE}{what.split(' ')[0]}/{verb}"


def list_lacking(doing: str, permissions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the actions of one of ACTIONS that these roles do not allow."""
    roles = list(permissions)
    return [action for each in ACTIONS[doing] if not is_allowed(action := _WORKSPACE + each, roles)]


def is_allowed(action: str, permissions: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether one of the roles allows an action and does not take it away again; "*" stands for anything.

    AzureML Data Scientist takes "computes/*/write" away, by which "computes/write" is meant.
    """
    wanted = action.lower()

    def names(role: Mapping[str, Any], kind: str, middle: str = "/*/") -> bool:
        patterns = (str(pattern).lower().replace("/*/", middle) for pattern in role.get(kind) or [])
        return any(fnmatch.fnmatchcase(wanted, pattern) for pattern in patterns)

    return any(names(role, "actions") and not names(role, "notActions", "*/") for role in permissions)
