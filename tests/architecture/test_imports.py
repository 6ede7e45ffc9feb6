"""Imports run one way: app.py, pages -> pages/parts -> core; core.local stands apart; no circle anywhere."""

from __future__ import annotations

import graphlib

import pytest

from tests.architecture.modules import Module, belongs_to, list_modules

# Nothing that knows no screen may lean on these: they put nouns together for a page, a command or the ledger.
USE_CASES = (
    "core.preflight",
    "core.rehearsal",
    "core.operations",
    "core.teardown",
    "core.overview",
    "core.script",
    "core.run",
    "core.report",
)
CLIENT = [module for module in list_modules("core") if not belongs_to(module.name, "core.local")]
LOCAL = list_modules("core/local")
PARTS = list_modules("pages/parts")
PAGES = [module for module in list_modules("pages") if not module.file.startswith("pages/parts/")]


def _wrong(modules: list[Module], *forbidden: str, allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module.file}:{each.line} imports {each.name}"
        for module in modules
        for each in module.imports
        if belongs_to(each.name, *forbidden) and not belongs_to(each.name, *allowed)
    ]


def test_core_knows_no_screen() -> None:
    assert _wrong(list_modules("core"), "streamlit", "pages", "app", "plotly") == []


def test_the_local_workspace_imports_nothing_of_core_but_the_ground() -> None:
    own = ("core.local", "core.errors", "core.home", "core.pids", "core.migrations")
    wrong = [line for line in _wrong(LOCAL, "core", allowed=own) if not line.endswith("imports core")]
    assert wrong == []


def test_the_client_side_never_imports_the_local_workspace() -> None:
    assert _wrong(CLIENT, "core.local") == []
    assert _wrong([*PARTS, *PAGES], "core.local") == []


def test_the_local_workspace_shares_no_code_with_azures_sdk() -> None:
    assert _wrong(LOCAL, "azure", "msrest", "mlflow") == []


def test_the_server_imports_no_trainer_and_no_torch() -> None:
    server = [module for module in LOCAL if not belongs_to(module.name, "core.local.engine", "core.local.base_model")]
    assert _wrong(server, "torch", "transformers", "peft", "core.local.engine") == []


def test_pages_and_parts_know_no_sdk() -> None:
    assert _wrong([*PARTS, *PAGES], "azure", "requests", "sqlite3", "subprocess", "mlflow") == []


def test_pages_import_parts_and_core_and_no_other_page() -> None:
    scripts = tuple(module.name for module in PAGES if module.name != "pages")
    assert _wrong([*PARTS, *PAGES], *scripts) == []


def test_nouns_do_not_import_use_cases() -> None:
    nouns = [module for module in CLIENT if not belongs_to(module.name, *USE_CASES)]
    assert _wrong(nouns, *USE_CASES) == []


@pytest.mark.parametrize("root", ["core", "pages"])
def test_no_module_imports_itself_in_a_circle(root: str) -> None:
    modules = {module.name: module for module in list_modules(root)}
    graph = {
        name: {each.name for each in module.imports if each.at_start and each.name in modules and each.name != name}
        for name, module in modules.items()
    }
    packages = {name for name, module in modules.items() if module.path.name == "__init__.py"}
    for name, needs in graph.items():  # a package's module needs the package only as its address
        needs -= {package for package in packages if belongs_to(name, package)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
