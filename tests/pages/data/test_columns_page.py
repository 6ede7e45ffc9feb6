"""Which column is what: a guess is confirmed, a wrong one corrected, and what is not used is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from core import dataset
from core.launch import drafts
from tests.pages.apps import buttons, open_app, run_until, texts


def open_upload(rows: list[dict[str, Any]]) -> AppTest:
    begun = dataset.start_upload("given.jsonl", "\n".join(map(json.dumps, rows)).encode())
    draft = drafts.create_draft("local", model="tiny-chat", model_version="1")
    app = open_app("data", at="local", draft=draft.id, prep=begun.id, **{"from": "upload"})
    return run_until(app, lambda app: len(app.metric) == 4)


def is_usable(app: AppTest) -> bool:
    return not buttons(app)["Use this data"].disabled


def test_a_guess_is_used_when_it_is_confirmed_and_not_before(home: Path) -> None:
    app = open_upload([{"left": f"Is berth {number} free?", "right": f"Berth {number} is."} for number in range(30)])
    assert not is_usable(app)
    assert "Confirm which column is what" in [expander.label for expander in app.expander]
    assert "Berth 0 is." in texts(app), "the first conversation is shown as it would be read"
    buttons(app)["Read it so"].click()
    run_until(app.run(), is_usable)
    assert 'Read as you set it. Question: "left", answer: "right".' in texts(app)


def test_better_answers_are_trained_on_only_when_that_is_said(home: Path) -> None:
    rows = [
        {"prompt": f"Is berth {number} free?", "chosen": f"Yes, {number}.", "rejected": f"Find out, {number}."}
        for number in range(30)
    ]
    app = open_upload(rows)
    assert not is_usable(app)
    buttons(app)["Train on the chosen answers"].click()
    run_until(app.run(), lambda app: is_usable(app) and "Find out, 1." not in texts(app))
    assert "Yes, 1." in texts(app)
    assert 'Not used: "rejected" (100% of rows)' in texts(app)


def test_calls_and_tools_are_in_the_first_conversation_as_it_would_be_read(home: Path) -> None:
    tools = [{"type": "function", "function": {"name": "find_berth", "parameters": {}}}]
    call = {"id": "a", "type": "function", "function": {"name": "find_berth", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Where is a berth?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Berth 4", "tool_call_id": "a"},
        {"role": "assistant", "content": "At berth 4."},
    ]
    app = open_upload([{"messages": messages, "tools": tools, "number": number} for number in range(30)])
    mapping = next(one for one in app.expander if one.label == "Correct which column is what")
    assert any("find_berth" in str(one.value) for one in mapping.code)
    assert "Tools" in [one.label for one in mapping.expander]
