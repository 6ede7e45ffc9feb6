"""What the local workspace does of the SDK: `python -m tests.contract.coverage` writes core/local/COVERAGE.md.

Nothing in it is claimed by hand: the operations come from the SDK's own classes, what each of them asks for from
tests/data/sdk_requests.json, what is done from the server's routes, and the tests from their source.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections import defaultdict
from typing import Any

from starlette.routing import Match

from core.home import REPOSITORY

TABLE = REPOSITORY / "core/local/COVERAGE.md"
REQUESTS = REPOSITORY / "tests/data/sdk_requests.json"
GROUPS = {
    "workspaces": "WorkspaceOperations",
    "registries": "RegistryOperations",
    "compute": "ComputeOperations",
    "datastores": "DatastoreOperations",
    "data": "DataOperations",
    "components": "ComponentOperations",
    "environments": "EnvironmentOperations",
    "jobs": "JobOperations",
    "models": "ModelOperations",
    "online_endpoints": "OnlineEndpointOperations",
    "online_deployments": "OnlineDeploymentOperations",
}
SCRIPTS = {"lesson": "test_lesson.lesson"}  # what is run by a test, by that test
_NAMES = {"subscription": "s", "group": "g", "workspace": "w", "registry": "azureml", "location": "local"}


def list_operations() -> list[str]:
    """Return the public operations of the SDK in these groups, as `jobs.begin_cancel`."""
    from azure.ai.ml import operations

    found = []
    for group, name in GROUPS.items():
        of_class = inspect.getmembers(getattr(operations, name), callable)
        found += [f"{group}.{operation}" for operation, _ in of_class if not operation.startswith("_")]
    return found


def read_requests() -> dict[str, list[str]]:
    """Return by operation the requests of its own, as "POST {ws}/jobs/{name}/cancel"; [] is none at all."""
    read: dict[str, Any] = json.loads(REQUESTS.read_text(encoding="utf-8"))
    return dict(read["operations"])


def is_routed(request: str) -> bool:
    """Tell whether the server has a route for a request."""
    from core.local.server import ROUTES
    from core.local.wire.answers import HISTORY_PATH, PROVIDER_PATH, REGISTRY_PATH, WORKSPACE_PATH

    method, path = request.split(" ")
    bases = {
        "{ws}": WORKSPACE_PATH,
        "{registry}": REGISTRY_PATH,
        "{history}": HISTORY_PATH,
        "{provider}": PROVIDER_PATH,
    }
    for short, base in bases.items():
        path = path.replace(short, base)
    path = re.sub(r"\{(\w+)\}", lambda found: _NAMES.get(found[1], "x"), path)
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in ROUTES)


def find_tests() -> dict[str, set[str]]:
    """Return by operation the tests that call it: as `<client>.<group>.<operation>`, in their body or what it calls.

    A script that a test runs counts as that test's.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((REPOSITORY / "tests/contract").glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
        tests = [name for name in functions if name.startswith("test_")]
        if path.stem in SCRIPTS:
            for operation in _named_in(tree):
                found[operation].add(SCRIPTS[path.stem])
        for name in tests:
            for operation in _called(name, functions, set()):
                found[operation].add(f"{path.stem}.{name}")
    return found


def _called(name: str, functions: dict[str, ast.FunctionDef], seen: set[str]) -> set[str]:
    seen.add(name)
    called = _named_in(functions[name])
    for node in ast.walk(functions[name]):
        if isinstance(node, ast.Name) and node.id in functions and node.id not in seen:
            called |= _called(node.id, functions, seen)
    return called


def _named_in(tree: ast.AST) -> set[str]:
    return {
        f"{node.value.attr}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in GROUPS
    }


def read_refused() -> dict[str, str]:
    """Return the operations that come to nothing though their requests have routes, with the reason."""
    read: dict[str, Any] = json.loads(REQUESTS.read_text(encoding="utf-8"))
    return dict(read["refused"])


def state_of(operation: str) -> str:
    """Return what becomes of an operation."""
    requests = read_requests().get(operation, ["GET /?"])
    if reason := read_refused().get(operation):
        return reason
    if not requests:
        return "in the SDK only"
    return "yes" if all(map(is_routed, requests)) else "501"


def make_table() -> str:
    """Return the content of COVERAGE.md."""
    requests, tests = read_requests(), find_tests()
    lines = [
        "# What the local workspace does of azure-ai-ml",
        "",
        "Written by `python -m tests.contract.coverage`; a test holds it. *Done* is `yes` where the server has a route",
        "for each request that is the operation's own, `501` where it says that it does not know one, `400` where it",
        "refuses what the operation asks for. Shared requests (the location, the default datastore, its secret, the",
        "blobs) are left out.",
        "",
        "| Operation | Requests of its own | Done | Tested by |",
        "|---|---|---|---|",
    ]
    for operation in list_operations():
        asked = requests.get(operation, ["?"])
        told = "<br>".join(f"`{each}`" for each in asked) or "none"
        by = "<br>".join(f"`{each.partition('.')[0]}`" for each in _one_per_file(tests.get(operation, set())))
        lines.append(f"| `{operation}` | {told} | {state_of(operation)} | {by} |")
    return "\n".join([*lines, ""])


def _one_per_file(tests: set[str]) -> list[str]:
    return sorted({each.partition(".")[0] for each in tests})


if __name__ == "__main__":
    TABLE.write_text(make_table(), encoding="utf-8")
    print(TABLE)
