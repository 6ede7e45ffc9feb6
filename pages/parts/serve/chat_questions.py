"""Questions to try on the chat page: rows of the test split, those first that the base model answered too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core import dataset, overview
from core.azureml import tags
from core.azureml.reader import Snapshot
from core.dataset import ChatDataset
from core.runs import evaluation
from core.runs.evaluation import Answer
from core.runs.states import Run
from core.serving import chat
from core.serving.chat import Message
from core.serving.endpoints import EndpointView
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.serve.chat_state import Chat

_LONGEST = 48
_LOOKED_AT = 12
_OFFERED = 2


@dataclass(frozen=True)
class TestRows:
    """The test file of the run behind an endpoint. answered: what its evaluation asked, with both models' answers."""

    path: Path
    rows: int
    answered: Sequence[Answer] = ()

    def ask(self, history: Chat, row: int) -> None:
        """Ask a row, counted from 0, on its own."""
        prompt, expected = self._read(row)
        base = next((one.base for one in self.answered if _same(one.messages, prompt)), "")
        history.ask_row(row + 1, prompt, expected, base)

    def list_short(self) -> Sequence[tuple[int, str]]:
        """Return a few short questions with their rows: such as the base model answered too, where there are any."""
        found = []
        for row in [one.row - 1 for one in self.answered if one.row <= self.rows] or range(min(self.rows, _LOOKED_AT)):
            prompt, _ = self._read(row)
            if prompt and len(prompt[-1]["content"]) <= _LONGEST:
                found.append((row, str(prompt[-1]["content"])))
            if len(found) == _OFFERED:
                break
        return found

    def _read(self, row: int) -> tuple[list[Message], str]:
        found = list(dataset.read_rows(self.path, row, 1))
        said = [{"role": each["role"], "content": each["content"]} for each in found[0].messages] if found else []
        return chat.split_row(said)


def _same(one: Sequence[Mapping[str, object]], other: Sequence[Message]) -> bool:
    return [(turn.get("role"), turn.get("content")) for turn in one] == [
        (turn.get("role"), turn.get("content")) for turn in other
    ]


def draw_questions(history: Chat, endpoint: EndpointView) -> None:
    """Draw questions to try: any row of the test split, two short ones, or one that anybody would ask."""
    found = _find_test_rows(endpoint)
    if found is None:
        action("What is your name?", history.ask, "What is your name?", key="try-name")
        return
    action("Random test row", _ask_any, found, history, key="random-row", icon="casino")
    for row, question in found.list_short():
        action(words.plain(question), found.ask, history, row, key=f"try-{row}")


def _ask_any(found: TestRows, history: Chat) -> None:
    found.ask(history, random.randrange(found.rows))


def find_run(endpoint: EndpointView) -> Snapshot[Run] | None:
    """Return what is known of the run that made the model behind an endpoint, None where it names none."""
    return reads.read(overview.read_run, endpoint.run, max_age_s=600.0) if endpoint.run else None


def find_data(endpoint: EndpointView) -> ChatDataset | None:
    """Return the data that the model behind an endpoint was trained on, where this home has it."""
    found = find_run(endpoint)
    run = found.value if found else None
    return dataset.find_dataset(run.tags.get(tags.DATASET_KEY, "")) if run else None


def _find_test_rows(endpoint: EndpointView) -> TestRows | None:
    """Return the test rows of the run behind an endpoint, where this home has its data."""
    known = find_data(endpoint)
    if known is None or known.test_path is None or not known.test_rows:
        return None
    result = reads.read(evaluation.read_evaluation, endpoint.run, max_age_s=600.0).value
    return TestRows(known.test_path, known.test_rows, result.answers if result else ())
