"""What pages know of background work: no outcome is missed, whenever it comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.home import Home
from core.local import control
from pages.parts.kit import reads
from tests.waiting import wait_until


def test_an_outcome_that_comes_between_two_looks_of_one_run_has_the_page_drawn_again() -> None:
    """Two rows wait for one tokenizer: the first drew "loading", the second the outcome. The first must not stay so."""

    def script() -> None:
        import threading

        import streamlit as st

        from pages.parts.kit import reads
        from pages.parts.kit.state import ui

        gate = threading.Event()
        first = reads.work("between", "one", gate.wait)
        gate.set()
        while (now := reads.find_work("between", "one")) is None or now.loading:
            pass
        second = reads.work("between", "one", gate.wait)
        st.text(f"{first.loading} {second.loading} {reads.is_waiting(ui().watched['between:one'].drawn)}")

    app = AppTest.from_function(script, default_timeout=60).run()
    assert app.text[0].value == "True False True"


def test_large_outcomes_are_kept_for_the_newest_key_alone() -> None:
    def script() -> None:
        from pages.parts.kit import reads

        reads.work("large", "first", lambda: 1, alone=True)
        reads.work("large", "second", lambda: 2, alone=True)
        reads.work("other", "first", lambda: 3)

    AppTest.from_function(script, default_timeout=60).run()
    assert reads.find_work("large", "first") is None
    assert reads.find_work("large", "second") is not None
    assert reads.find_work("other", "first") is not None


def test_what_is_asked_before_the_local_workspace_is_up_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))

    def script() -> None:
        import streamlit as st

        from core import home
        from core.azureml.connection import Connection, connect
        from core.azureml.reader import reader_for
        from core.azureml.settings import LOCAL, local_settings
        from core.locks import held
        from pages.parts.kit import reads

        with held(home.current().create().path / "starting.lock"):  # as if it took long to start
            reads.read(Connection.facts, alias=LOCAL)
            key = f"{Connection.facts.__module__}.{Connection.facts.__qualname__}:"
            known = reader_for(connect(local_settings())).wait(key, Connection.facts)
            found = reads.read(Connection.facts, alias=LOCAL)
            st.text(f"{type(known.error).__name__}, {found.loading}, {found.error}")

    app = AppTest.from_function(script, default_timeout=60).run()
    wait_until(lambda: control.find_health(Home(tmp_path)))  # it is started now, and would be left running
    control.stop(Home(tmp_path))
    assert app.text[0].value == "LocalWorkspaceDown, True, None"
