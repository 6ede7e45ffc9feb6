"""Deployment templates of a registry: how its models are served, and on which sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.azureml.connection import Connection
from core.catalog import registries

_API = {"api-version": "2026-05-01-preview"}
_KEPT_S = 600.0
_ID = re.compile(
    r"azureml://registries/([\w.-]+)/deploymenttemplates/([\w.-]+)/(versions|labels)/([\w.-]+)", re.IGNORECASE
)


@dataclass(frozen=True)
class Template:
    """One version of a deployment template."""

    name: str
    version: str
    sizes: tuple[str, ...]
    """Those it allows."""


def list_templates(conn: Connection, asset_ids: tuple[str, ...]) -> list[Template]:
    """Return the templates that a model names, in its order; one that is gone or has another form is left out.

    Raises TunedeckError where the registry does not answer.
    """
    found = [conn.remember(f"template {each}", partial(_read, conn, each), _KEPT_S) for each in asset_ids]
    return [template for template in found if template is not None]


def _read(conn: Connection, asset_id: str) -> Template | None:
    parts = _ID.fullmatch(asset_id)
    if parts is None:
        return None
    registry, name, kind, version = parts.groups()
    # The assets of templates stand beside those of models, under a service of their own.
    url = registries.find_address(conn, registry).replace("/mferp/managementfrontend/", "/genericasset/v2.0/", 1)
    what = f"deployment template '{name}'"
    if kind.lower() == "versions":
        return _to_template(registries.ask(conn, f"{url}/deploymenttemplates/{name}/versions/{version}", what, _API))
    # The service knows no label "latest": the versions are listed, in no order.
    listed = registries.ask(conn, f"{url}/deploymenttemplates", what, {**_API, "name": name}).get("value")
    versions = [each for each in map(_to_template, listed if isinstance(listed, list) else []) if each]
    return max(versions, key=lambda each: (each.version.isdecimal(), each.version.zfill(20)), default=None)


def _to_template(body: Mapping[str, Any]) -> Template | None:
    """Return what an answer describes; some answers have the fields in an object of their own."""
    told = {**body, **(body.get("properties") or {})}
    allowed = told.get("allowedInstanceType") or told.get("allowedInstanceTypes") or ()
    sizes = allowed.split() if isinstance(allowed, str) else allowed
    if not told.get("name"):
        return None
    default = str(told.get("defaultInstanceType") or "")
    return Template(str(told["name"]), str(told.get("version") or ""), tuple(map(str, sizes)) or (default,))
