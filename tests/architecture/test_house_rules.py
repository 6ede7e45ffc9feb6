"""Rules that a reader could check by eye and would forget to."""

from __future__ import annotations

import ast
import re
import statistics
import warnings

from pages.parts.kit.links import PAGES
from tests.architecture.modules import REPOSITORY, Module, list_modules

PARTS = "pages/parts/"
CALLBACKS = {"on_click", "on_change", "on_submit", "on_select", "on_dismiss"}
# Broad handlers stand where a loop must outlive any mistake: the frame and the tops of threads and servers.
BROAD_HANDLERS = {
    "core/azureml/reader.py",
    "core/catalog/flights.py",
    "core/engine/generation.py",
    "core/operations/runner.py",
    "core/local/endpoints/deployments.py",
    "core/local/jobs/runner.py",
    "core/local/server.py",
    "core/local/workspace.py",
    "pages/parts/kit/guard.py",
}
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:tmp|work|root|home|Users)/[\w.-]+")
# What stands behind a dot in the name of a host of Azure's: documents have others.
AZURE_HOST = re.compile(
    r"\b(?:management|login|portal|prices|ml|api|inference|core)\.(?:[\w-]+\.)*"
    r"(?:azure\.(?:com|us|cn)|azureml\.ms|windows\.net|microsoftonline\.\w+|usgovcloudapi\.net|chinacloudapi\.cn)"
)
SHIPPED = list_modules("app.py", "core", "pages")

FUNCTION_P90_LINES = 45
MODULE_LINES = 400
PAGE_LINES = 120


def _nodes(modules: list[Module], *kinds: type[ast.AST]) -> list[tuple[str, ast.AST]]:
    return [
        (f"{module.file}:{getattr(node, 'lineno', 0)}", node)
        for module in modules
        for node in module.nodes
        if isinstance(node, kinds)
    ]


def test_callbacks_are_wrapped_by_parts() -> None:
    """An exception in a raw callback leaves the page blank; parts.action turns it into a notice."""
    outside = [module for module in list_modules("app.py", "pages") if not module.file.startswith(PARTS)]
    raw = [place for place, node in _nodes(outside, ast.keyword) if node.arg in CALLBACKS]  # type: ignore[attr-defined]
    assert raw == []


def test_fragments_are_wrapped_by_parts() -> None:
    """An exception in a raw fragment replaces what it drew; parts.live keeps the last good view."""
    live = {"pages/parts/kit/live.py"}
    used = [place for place, node in _nodes(SHIPPED, ast.Attribute, ast.Name) if _name(node) == "fragment"]
    assert [place for place in used if place.split(":")[0] not in live] == []


def test_no_html_reaches_the_page() -> None:
    """What a data set, a model or a log says is inert; the theme is in .streamlit/config.toml."""
    found = [place for place, node in _nodes(SHIPPED, ast.keyword) if node.arg == "unsafe_allow_html"]  # type: ignore[attr-defined]
    assert found == []
    calls = [place for place, node in _nodes(SHIPPED, ast.Attribute) if ast.unparse(node) in ("st.html", "st.iframe")]
    assert calls == []


def test_no_pipeline_is_built_on_the_stack_that_all_threads_share() -> None:
    """azure.ai.ml.dsl keeps the pipelines being defined on one stack of the process: two launches would mix."""
    used = [
        f"{module.file}:{each.line}"
        for module in SHIPPED
        for each in module.imports
        if each.name.startswith("azure.ai.ml.dsl")
    ]
    assert used == []


def test_operations_wait_by_no_clock() -> None:
    """A clock that is set would end a wait, or make it last; what waits is counted in looks and monotonic seconds."""
    operations = [module for module in SHIPPED if module.file.startswith("core/operations/")]
    read = [place for place, node in _nodes(operations, ast.Attribute) if ast.unparse(node) == "time.time"]
    assert read == []


def test_errors_are_caught_by_name() -> None:
    """A handler that ends in a bare raise undoes something on the way and hides nothing."""
    broad = {
        place
        for place, node in _nodes(SHIPPED, ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and ast.unparse(node.body[-1]) != "raise"
    }
    assert {place for place in broad if place.split(":")[0] not in BROAD_HANDLERS} == set()


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    here = "tests/architecture/"
    assert [one.file for one in list_modules() if not one.file.startswith(here) and marks.search(one.text)] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = {module.file: module.text for module in list_modules()}
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "requirements.lock", "pyproject.toml"):
        texts[name] = (REPOSITORY / name).read_text(encoding="utf-8")
    assert [name for name, text in texts.items() if MACHINE_PATH.search(text)] == []


def test_hosts_of_azure_stand_in_one_table() -> None:
    """The local workspace, which shares no code with its clients, names those it stands for itself."""
    named = {module.file for module in SHIPPED if AZURE_HOST.search(module.text)}
    assert {file for file in named if not file.startswith("core/local/")} == {"core/azureml/addresses.py"}


def test_core_sends_nobody_to_a_page() -> None:
    """A hint of core says what to do in the field's words; the page that shows it draws the link."""
    titles = "|".join(re.escape(page.title) for page in PAGES.values())
    sent = re.compile(rf"\bGo to\b|\b(?:[Oo]n|[Ss]ee|[Pp]age) (?:{titles})\b|:material/")
    core = [module for module in SHIPPED if module.file.startswith("core/")]
    docstrings = {id(node.value) for _, node in _nodes(core, ast.Expr) if isinstance(node, ast.Expr)}
    said = [
        place
        for place, node in _nodes(core, ast.Constant)
        if isinstance(node, ast.Constant) and id(node) not in docstrings and sent.search(str(node.value))
    ]
    assert said == []


def test_every_module_says_what_it_is() -> None:
    silent = [one.file for one in SHIPPED if not one.docstring and one.text.strip()]
    assert silent == []


def test_sizes_stay_readable() -> None:
    """The ninetieth percentile holds; single long ones are reported as warnings, not argued with."""
    functions = {
        f"{place} {node.name}": (node.end_lineno or 0) - node.lineno + 1  # type: ignore[attr-defined]
        for place, node in _nodes(SHIPPED, ast.FunctionDef, ast.AsyncFunctionDef)
    }
    modules = {one.file: one.text.count("\n") for one in SHIPPED}
    pages = {name: lines for name, lines in modules.items() if name.startswith("pages/") and not name.startswith(PARTS)}
    _report("lines in a function", functions, FUNCTION_P90_LINES)
    _report("lines in a module", modules, MODULE_LINES)
    _report("lines in a page", pages, PAGE_LINES)
    assert statistics.quantiles(functions.values(), n=10)[-1] < FUNCTION_P90_LINES
    assert statistics.quantiles(modules.values(), n=10)[-1] < MODULE_LINES
    assert max(pages.values()) <= PAGE_LINES


def _report(what: str, sizes: dict[str, int], limit: int) -> None:
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        if size > limit:
            warnings.warn(f"{name}: {size} {what} (aim: {limit})", stacklevel=3)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
