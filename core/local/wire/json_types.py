"""The JSON types of what a client sends, held against tables; the SDK sends no others.

A shape is a type or a tuple of types, {name: shape} for an object, whose other fields are not looked at ("*" stands for
every other name), or [shape] for a list. null fits everything.
"""

from __future__ import annotations

from typing import Any

from core.local.wire.errors import WireError


def field_names(text: str) -> frozenset[str]:
    """Return the names in a text, separated by blanks."""
    return frozenset(text.split())


NUMBER = (int, float)
SCALAR = (str, int, float, bool)
_PROBE = {
    "failureThreshold": int,
    "successThreshold": int,
    "timeout": str,
    "period": str,
    "initialDelay": str,
}
_FLOWS = {"*": (dict, *SCALAR)}
JOB = {
    "properties": {
        **dict.fromkeys(
            ("jobType", "displayName", "description", "experimentName", "computeId", "componentId", "environmentId"),
            str,
        ),
        **dict.fromkeys(("command", "codeId", "sourceJobId", "parentJobName"), str),
        **dict.fromkeys(("tags", "properties", "environmentVariables", "limits", "identity", "services"), dict),
        "isArchived": bool,
        "inputs": _FLOWS,
        "outputs": {"*": {"jobOutputType": str, "mode": str, "uri": str}},
        "resources": {"instanceCount": int, "properties": dict},
        "settings": {"default_compute": str},
        "jobs": {"*": {"name": str, "componentId": str, "computeId": str, "inputs": _FLOWS, "outputs": _FLOWS}},
    }
}
ENDPOINT = {
    "tags": dict,
    "properties": {"description": str, "authMode": str, "properties": dict, "traffic": dict, "mirrorTraffic": dict},
}
DEPLOYMENT = {
    "tags": dict,
    "sku": {"name": str, "capacity": int},
    "properties": {
        "model": str,
        "instanceType": str,
        "description": str,
        "properties": {"*": SCALAR},
        "environmentVariables": {"*": SCALAR},
        "requestSettings": {"requestTimeout": str, "maxQueueWait": str, "maxConcurrentRequestsPerInstance": int},
        "livenessProbe": _PROBE,
        "readinessProbe": _PROBE,
        "scaleSettings": {"scaleType": str},
    },
}
_PAIRS = [{"key": str, "value": SCALAR}]
MLFLOW = {
    **dict.fromkeys(("run_id", "run_uuid", "run_name", "name", "filter", "status", "path", "run_view_type"), str),
    **dict.fromkeys(("experiment_id", "page_token", "max_results"), (str, int)),
    "experiment_ids": [(str, int)],
    "order_by": [str],
    "metrics": [{"key": str, "value": (str, *NUMBER), "step": (str, int), "timestamp": (str, int)}],
    "params": _PAIRS,
    "tags": _PAIRS,
}


def check_shape(value: Any, shape: Any, where: str = "") -> None:
    """Raise WireError 400 naming the first place where `value` does not have its shape."""
    if value is None:
        return
    if isinstance(shape, dict):
        _check_type(value, dict, where)
        for name, inner in value.items():
            if (wanted := shape.get(name, shape.get("*"))) is not None:
                check_shape(inner, wanted, f"{where}.{name}" if where else str(name))
    elif isinstance(shape, list):
        _check_type(value, list, where)
        for number, inner in enumerate(value):
            check_shape(inner, shape[0], f"{where}[{number}]")
    else:
        _check_type(value, shape, where)


def _check_type(value: Any, kind: type | tuple[type, ...], where: str) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = " or ".join(each.__name__ for each in kinds)
        raise WireError(400, "BadRequest", f"The field '{where}' must be {words}, not {type(value).__name__}.")
