"""What is imported is pinned, what is pinned is locked, and PyTorch stays out of the lock."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.architecture.modules import REPOSITORY, list_modules

OWN = {"app", "core", "pages", "tests", "benchmarks"}
APART = {"torch"}
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;]+)", re.MULTILINE)


def _pins(name: str) -> dict[str, str]:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return {_canonical(package): version for package, version in PIN.findall(text)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distributions(*roots: str) -> set[str]:
    """Return the distributions whose modules are imported below these roots."""
    providers = packages_distributions()
    found = set()
    for module in list_modules(*roots):
        for each in module.imports:
            top = each.name.split(".")[0]
            if top in OWN | {"", "__future__"} or top in sys.stdlib_module_names:
                continue
            found |= _azure(each.name) if top == "azure" else {_canonical(one) for one in providers.get(top, [top])}
    return found


def _azure(module: str) -> set[str]:
    """azure is a namespace that many distributions fill: azure.ai.ml is azure-ai-ml."""
    pinned = [name for name in _pins("requirements.txt") if name.startswith("azure-")]
    owner = next((name for name in pinned if module.replace(".", "-").startswith(name)), None)
    return {owner} if owner else set()


@pytest.mark.parametrize(
    ("roots", "pins"),
    [
        (("app.py", "core", "pages"), ("requirements.txt",)),
        (("tests", "benchmarks"), ("requirements.txt", "requirements-dev.txt")),
    ],
)
def test_what_is_imported_is_pinned(roots: tuple[str, ...], pins: tuple[str, ...]) -> None:
    known = {name for file in pins for name in _pins(file)}
    assert _distributions(*roots) - known - APART == set()


def test_the_locks_hold_the_pins_and_agree() -> None:
    runtime, everything = _pins("requirements.lock"), _pins("requirements-dev.lock")
    assert _pins("requirements.txt").items() <= runtime.items()
    assert _pins("requirements-dev.txt").items() <= everything.items()
    assert runtime.items() <= everything.items()


def test_pytorch_and_its_gpu_libraries_stay_out_of_the_lock() -> None:
    heavy = ("torch", "nvidia", "triton", "cuda")
    assert [name for name in _pins("requirements-dev.lock") if name.startswith(heavy)] == []
