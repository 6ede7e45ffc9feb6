from __future__ import annotations

import ast
import json

import pytest

from core.engine import EVALUATION_PROGRAM, MERGE_PROGRAM
from core.errors import ServiceRefused
from core.home import REPOSITORY
from core.runs.evaluation import parse_evaluation

FOUND = {
    "rows": 2,
    "tokens": 40,
    "base": {"loss": 4.5, "perplexity": 90.0},
    "tuned": {"loss": 0.5, "perplexity": 1.65},
    "answers": [{"row": 1, "prompt": "Who?", "messages": [], "expected": "A.", "base": "B.", "tuned": "A."}],
    "seconds": 3.5,
}


@pytest.mark.parametrize("program", [EVALUATION_PROGRAM, MERGE_PROGRAM], ids=["evaluation", "merge"])
def test_the_program_that_travels_with_the_job_is_whole(program: tuple[str, ...]) -> None:
    """On Azure nothing else of this repository is there: what the files import of it must be among them."""
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in program}
    for name in program:
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text(encoding="utf-8"))):
            wanted = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wanted += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in (one for one in wanted if one.split(".")[0] == "core"):
                names = [f"{module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                assert module in modules, (name, module)
                submodules = [one for one in names if (REPOSITORY / f"{one.replace('.', '/')}.py").exists()]
                assert set(submodules) <= modules, (name, submodules)


def test_a_result_is_read_and_another_file_is_refused() -> None:
    evaluation = parse_evaluation(json.dumps(FOUND))
    assert (evaluation.base.loss, evaluation.tuned.perplexity) == (4.5, 1.65)
    assert evaluation.answers[0].expected == "A."
    for broken in ("", "[]", json.dumps({**FOUND, "answers": [{"row": 1}]})):
        with pytest.raises(ServiceRefused, match="The evaluation's result cannot be read"):
            parse_evaluation(broken)
