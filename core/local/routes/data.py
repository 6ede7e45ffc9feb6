"""Data assets: names and versions for files that were uploaded."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from core.local.addresses import datastore_path
from core.local.assets import Asset, AssetRoutes
from core.local.wire import answers
from core.local.wire.errors import WireError

TYPES = ("uri_file", "uri_folder", "mltable")


class _DataAsset(Asset):
    """What is a data asset's own."""

    kind = "data"
    segment = "data"
    content = "dataUri"

    def from_wire(self, request: Request, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `dataType` and `dataUri`; raises 400."""
        uri = answers.field_of(properties, "dataUri", str, "")
        sort = answers.field_of(properties, "dataType", str, "uri_file")
        if sort not in TYPES:
            raise WireError(400, "UserError", f"The type '{sort}' of the data is not one of {', '.join(TYPES)}.")
        path = datastore_path(uri)
        if path is None:
            raise WireError(400, "UserError", f"'{uri}' is not an address in this workspace's datastore.")
        return {"type": sort, "uri": uri}

    def to_wire(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the properties that are a data asset's own."""
        return {"dataType": document["type"], "dataUri": document["uri"]}

    def describe_container(self, newest: dict[str, Any]) -> dict[str, Any]:
        """Return what the container says of its versions."""
        return {"dataType": newest["type"]}


ROUTES = AssetRoutes(_DataAsset()).routes()
