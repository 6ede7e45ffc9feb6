"""Which component a node of a pipeline names: the registry's, or a copy in the workspace."""

from __future__ import annotations

import re
from typing import Any

from core.engine import component
from core.local.store import Document, Store
from core.local.wire.answers import REGISTRY_NAME, workspace_id
from core.local.wire.errors import WireError

ADDRESS = f"azureml://registries/{REGISTRY_NAME}/components/{component.NAME}/versions/{component.VERSION}"
_IN_WORKSPACE = re.compile(rf"{workspace_id()}/components/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)
_COMPARED = ("type", "default", "enum", "min", "optional")


def check_node_component(store: Store, field: str, address: str) -> None:
    """Refuse a node whose component does not run here; raises WireError 400 with the reason."""
    if address.lower() == ADDRESS.lower():
        return
    found = _IN_WORKSPACE.fullmatch(address)
    if found is None:
        raise WireError(400, "BadRequest", f"{field} must be {ADDRESS} in the local workspace, not '{address}'.")
    named = f"{field} names the component '{found['name']}' version '{found['version']}'"
    kept = store.get("component", f"{found['name']}/{found['version']}")
    if kept is None:
        raise WireError(400, "BadRequest", f"{named}, which does not exist.")
    if problem := _find_difference(kept["spec"]):
        raise WireError(400, "BadRequest", f"{named}, {problem}. A pipeline here runs {component.NAME}, or its copy.")


def _find_difference(spec: Document) -> str:
    """Return what makes a component another one than the registry's, "" where it is a copy."""
    if spec.get("type") != "pipeline":
        return f"which is a {spec.get('type')} component: submit its command as a job of its own"
    if spec.get("jobs"):
        return "which has steps of its own"
    original = component.component_spec()
    for sort in ("inputs", "outputs"):
        copied, wanted = spec.get(sort) or {}, original[sort]
        for name in sorted({*copied, *wanted}):
            if _told(copied.get(name)) != _told(wanted.get(name)):
                return f"whose {sort[:-1]} '{name}' is not the original's"
    return ""


def _told(of_spec: Any) -> dict[str, str] | None:
    """Return what is compared, as text: the SDK sends numbers where it was given strings."""
    if not isinstance(of_spec, dict):
        return None
    return {name: _text(of_spec[name]) for name in _COMPARED if of_spec.get(name) not in (None, False)}


def _text(value: Any) -> str:
    try:
        return str(value).lower() if isinstance(value, bool) else str(float(value))
    except (TypeError, ValueError):
        return str(value).lower()
