"""Data assets: names and versions for files that were uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from core.local.addresses import datastore_path
from core.local.assets import Asset, AssetRoutes
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace

TYPES = ("uri_file", "uri_folder", "mltable")


@dataclass(frozen=True, kw_only=True)
class Data(Asset):
    """One version of a data asset."""

    KIND = "data"
    SEGMENT = "data"

    type: str
    uri: str

    @classmethod
    def from_wire(cls, _workspace: Workspace, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `dataType` and `dataUri`; raises 400."""
        uri = answers.field_of(properties, "dataUri", str, "")
        kind = answers.field_of(properties, "dataType", str, "uri_file")
        if kind not in TYPES:
            raise WireError(400, "UserError", f"The type '{kind}' of the data is not one of {', '.join(TYPES)}.")
        if datastore_path(uri) is None:
            raise WireError(400, "UserError", f"'{uri}' is not an address in this workspace's datastore.")
        return {"type": kind, "uri": uri}

    @classmethod
    def read_content(cls, properties: dict[str, Any]) -> Any:
        """Return `dataUri`."""
        return properties.get("dataUri")

    def to_wire(self) -> dict[str, Any]:
        """Return the properties that are a data asset's own."""
        return {"dataType": self.type, "dataUri": self.uri}

    def describe_container(self) -> dict[str, Any]:
        """Return the type of the newest version."""
        return {"dataType": self.type}


class DataRoutes(AssetRoutes[Data]):
    """The data assets: as on Azure, none is deleted (github.com/microsoft/vscode-tools-for-ai/issues/1761)."""

    def delete_version(self, request: Request) -> Response:
        """DELETE: refused with 400, for a name that is not there with 404."""
        self._require(request)
        raise WireError(400, "UserError", "A data asset cannot be deleted. Archive it instead.")


ROUTES = DataRoutes(Data).routes()
