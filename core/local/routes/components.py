"""Components of the workspace: kept and given back. What runs here is the registry's pipeline; see jobs/request.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.local.assets import Asset, AssetRoutes
from core.local.wire import answers
from core.local.wire.errors import WireError
from core.local.workspace import Workspace

_TYPES = ("command", "pipeline", "parallel", "import", "spark", "sweep", "automl", "datatransfer", "flow")


@dataclass(frozen=True, kw_only=True)
class Component(Asset):
    """One version of a component."""

    KIND = "component"
    SEGMENT = "components"
    CONTENT = "spec"

    spec: dict[str, Any]
    anonymous: bool = False

    @classmethod
    def from_wire(cls, _workspace: Workspace, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `componentSpec`; raises 400."""
        spec = answers.field_of(properties, "componentSpec", dict, {})
        kind = answers.field_of(spec, "type", str, "")
        if kind.split("_")[0] not in _TYPES:
            raise WireError(400, "UserError", f"The type '{kind}' of the component is not one of {', '.join(_TYPES)}.")
        return {"spec": spec, "anonymous": answers.field_of(properties, "isAnonymous", bool, False)}

    @classmethod
    def read_content(cls, properties: dict[str, Any]) -> Any:
        """Return `componentSpec`."""
        return properties.get("componentSpec")

    def to_wire(self) -> dict[str, Any]:
        """Return the properties that are a component's own."""
        return {"componentSpec": self.spec, "isAnonymous": self.anonymous}


ROUTES = AssetRoutes(Component).routes()
