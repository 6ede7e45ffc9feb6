"""Which events are told of is one choice for a machine, made in any tab."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.alerts.events import EVENTS
from core.alerts.settings import read_settings
from core.home import Home
from tests.pages.apps import texts

FAILED, COMPLETED, DELETED = (EVENTS[name].words for name in ("run_failed", "run_completed", "deleted"))


def draw() -> None:
    from pages.parts.operate.alerts import draw_alerts

    draw_alerts("local")


def boxes(app: AppTest) -> dict[str, bool]:
    return {box.label: box.value for box in app.checkbox}


def tick(app: AppTest, label: str, on: bool) -> None:
    next(box for box in app.checkbox if box.label == label).set_value(on).run()


def test_a_tick_changes_one_event_and_not_what_another_tab_ticked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(Home(tmp_path).create().path))
    first, second = (AppTest.from_function(draw).run() for _ in range(2))
    before = set(read_settings().events)
    tick(first, COMPLETED, True)
    tick(first, FAILED, False)
    tick(second, DELETED, False)
    assert set(read_settings().events) == before - {"run_failed", "deleted"} | {"run_completed"}
    for app in (first, second):
        assert {label: on for label, on in boxes(app.run()).items() if label in (FAILED, COMPLETED, DELETED)} == {
            FAILED: False,
            COMPLETED: True,
            DELETED: False,
        }
        assert not app.exception


def test_a_choice_that_cannot_be_read_is_told_of_and_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path).create()
    monkeypatch.setenv("TUNEDECK_HOME", str(home.path))
    file = home.path / "alerts.json"
    file.write_text('{"events": ["run_failed"], "webhook": {"url": "https://hooks.example/s3cret"', encoding="utf-8")
    app = AppTest.from_function(draw).run()
    assert "The file alerts.json in the home folder cannot be read, so alerts go nowhere." in texts(app)
    assert "s3cret" not in texts(app) + "".join(code.value for code in app.code)
    assert boxes(app) == {}
    file.unlink()
    assert FAILED in boxes(app.run())
