"""Components of the workspace: kept and given back. What runs here is the registry's pipeline; see jobs/request.py."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from core.local.assets import Asset, AssetRoutes
from core.local.wire import answers
from core.local.wire.errors import WireError

_TYPES = ("command", "pipeline", "parallel", "import", "spark", "sweep", "automl", "datatransfer", "flow")


class _ComponentAsset(Asset):
    """What is a component's own."""

    kind = "component"
    segment = "components"
    content = "componentSpec"
    kept = "spec"

    def from_wire(self, request: Request, properties: dict[str, Any]) -> dict[str, Any]:
        """Read `componentSpec`; raises 400."""
        spec = answers.field_of(properties, "componentSpec", dict, {})
        sort = answers.field_of(spec, "type", str, "")
        if sort.split("_")[0] not in _TYPES:
            raise WireError(400, "UserError", f"The type '{sort}' of the component is not one of {', '.join(_TYPES)}.")
        return {"spec": spec, "anonymous": answers.field_of(properties, "isAnonymous", bool, False)}

    def to_wire(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the properties that are a component's own."""
        return {"componentSpec": document["spec"], "isAnonymous": document["anonymous"]}

    def describe_container(self, newest: dict[str, Any]) -> dict[str, Any]:
        """Return nothing more: a component's container has no content of its own."""
        return {}


ROUTES = AssetRoutes(_ComponentAsset()).routes()
