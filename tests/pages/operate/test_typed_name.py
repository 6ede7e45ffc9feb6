"""What is typed before a deletion is judged by core, not by the question alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.home import Home
from core.operations import list_operations
from tests.pages.apps import buttons, texts


def draw_question() -> None:
    from core.azureml.reader import Snapshot
    from core.teardown.inventory import Item
    from core.teardown.plan import Action, TeardownPlan
    from pages.parts.kit.action import draw_open_dialog
    from pages.parts.operate.teardown import draw_button

    item = Item("endpoint", "phi4-support")
    plan = TeardownPlan("ml-dev", (Action(item, "delete", "Callers get 404."),), (), confirm="phi4-support")
    draw_button(Snapshot(plan, None, None, 0.0, loading=False), 1)
    draw_open_dialog()


def test_a_deletion_begins_only_with_the_name_that_core_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(Home(tmp_path).create().path))
    app = AppTest.from_function(draw_question).run()
    buttons(app)["Delete 1 resource…"].click().run()
    app.text_input[0].set_value("phi4-suport")
    buttons(app)["Delete 1 resource"].click().run()
    assert "The name does not match. Nothing was deleted." in texts(app)
    assert list_operations() == []
    app.text_input[0].set_value(" phi4-support ")
    buttons(app)["Delete 1 resource"].click().run()
    assert [operation.title for operation in list_operations()] == ["Delete phi4-support"]
