"""Imports run one way, on whichever line: app.py, pages -> pages/parts -> core, and in core from the ground up."""

from __future__ import annotations

import graphlib

import pytest

from tests.architecture.modules import Module, belongs_to, list_modules

GROUND = {
    "errors",
    "home",
    "pids",
    "migrations",
    "schema",
    "database",
    "recipe",
    "words",
    "stored",
    "locks",
    "programs",
    "installer",
}
# Each may import the ground and those before it. `local` is the other side of the wire: it imports ground and engine.
ROOMS = (
    "engine",
    "azureml",
    "catalog",
    "dataset",
    "runs",
    "launch",
    "serving",
    "teardown",
    "alerts",
    "operations",
    "overview",
    "support_bundle",
    "launcher",
)
SECTIONS = ("home", "setup", "data", "tune", "serve", "operate")
CORE = list_modules("core")
LOCAL = list_modules("core/local")
ENGINE = list_modules("core/engine")
PARTS = list_modules("pages/parts")
PAGES = [module for module in list_modules("pages") if not module.file.startswith("pages/parts/")]
SCREENS = [*PARTS, *PAGES]


def _wrong(modules: list[Module], *forbidden: str, allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module.file}:{each.line} imports {each.name}"
        for module in modules
        for each in module.imports
        if belongs_to(each.name, *forbidden) and not belongs_to(each.name, *allowed)
    ]


def _room(name: str) -> str:
    """Return the room of a core module: a folder, a module of the first level, or "ground"."""
    first = name.split(".")[1]
    return "ground" if first in GROUND else first


def test_every_module_of_core_has_a_room() -> None:
    rooms = {_room(module.name) for module in CORE if module.name != "core"}
    assert rooms == {"ground", "local", *ROOMS}


@pytest.mark.parametrize("room", ["ground", "local", *ROOMS])
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    below = ("engine",) if room == "local" else ROOMS[: ROOMS.index(room)] if room in ROOMS else ()
    allowed = {"ground", room, *below}
    known = {module.name for module in CORE} - {"core"}
    wrong = [
        f"{module.file}:{each.line} imports {each.name}"
        for module in CORE
        if module.name != "core" and _room(module.name) == room
        for each in module.imports
        if each.name in known and _room(each.name) not in allowed
    ]
    assert wrong == []


def test_core_knows_no_screen() -> None:
    assert _wrong(CORE, "streamlit", "pages", "app", "plotly") == []


def test_nobody_imports_the_local_workspace() -> None:
    assert _wrong(SCREENS, "core.local") == []


def test_the_local_workspace_and_the_engine_share_no_code_with_azures_sdk() -> None:
    assert _wrong([*LOCAL, *ENGINE], "azure", "msrest", "mlflow") == []


def test_the_server_imports_no_trainer_and_no_torch() -> None:
    """Of the engine it takes what weighs nothing: tables, files that outlast a power cut, checkpoints' notes."""
    light = ("core.engine.checkpoints", "core.engine.component", "core.engine.disk", "core.engine.memory")
    programs = ("core.local.base_model", "core.local.add_model")
    server = [module for module in LOCAL if module.name not in programs]
    assert _wrong(server, "torch", "transformers", "peft", "core.engine", allowed=(*light, "core.engine")) == []
    heavy = [line for line in _wrong(server, "core.engine", allowed=light) if not line.endswith("imports core.engine")]
    assert heavy == []


def test_pages_and_parts_know_no_sdk() -> None:
    assert _wrong(SCREENS, "azure", "requests", "sqlite3", "subprocess", "mlflow") == []


def test_pages_import_parts_and_core_and_no_other_page() -> None:
    scripts = tuple(module.name for module in PAGES if module.name != "pages")
    assert _wrong(SCREENS, *scripts) == []


def test_chat_data_has_one_door() -> None:
    """Who is outside imports what core/dataset/__init__.py hands out, and none of its modules."""
    inside = tuple(module.name for module in CORE if module.name.startswith("core.dataset."))
    outside = [module for module in CORE if not belongs_to(module.name, "core.dataset")]
    assert _wrong([*outside, *SCREENS, *list_modules("app.py")], *inside) == []


def test_the_kit_knows_no_section() -> None:
    kit = [module for module in PARTS if module.file.startswith("pages/parts/kit/")]
    assert _wrong(kit, *(f"pages.parts.{section}" for section in SECTIONS)) == []


@pytest.mark.parametrize("root", ["core", "pages"])
def test_no_module_imports_itself_in_a_circle(root: str) -> None:
    """Late imports and those for the type checker count: a circle that is hidden is still one."""
    modules = {module.name: module for module in list_modules(root)}
    graph = {
        name: {each.name for each in module.imports if each.name in modules and each.name != name}
        for name, module in modules.items()
    }
    packages = {name for name, module in modules.items() if module.path.name == "__init__.py"}
    for name, needs in graph.items():  # a package's module needs the package only as its address
        needs -= {package for package in packages if belongs_to(name, package)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
