"""The tree of what exists: what is ticked at first, what a filter or another page does to ticks, 200 things in time."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest

from tests.pages.apps import texts

MOST_MS = 300.0  # of a script


def draw() -> None:
    import time

    import streamlit as st

    from core.catalog.prices import Price
    from core.teardown.inventory import Inventory, Item
    from pages.parts.operate.tree import draw_tree

    owners = ("ada@contoso.com", "ben@contoso.com")
    items = []
    for number in range(50):
        owner = owners[number % 2]
        whole = Item(
            "endpoint", f"kettle-{number}", price=Price(2.0), per_hour=2.0, owner=owner, mine=owner == owners[0]
        )
        part = Item("deployment", f"kettle-{number}/demo", parent=whole.key, owner=owner, traffic=number % 3 and 100)
        items += [whole, part, *(Item(kind, f"{kind}-{number}", "1", bytes=1000) for kind in ("model", "data"))]
    began = time.perf_counter()
    st.session_state["picks"] = draw_tree(Inventory(tuple(items)), st.session_state.get("asked", ()))
    st.session_state["took_ms"] = (time.perf_counter() - began) * 1000


def box(app: AppTest, label: str, nth: int = 0) -> Any:
    return [each for each in app.checkbox if each.label.replace("\\", "") == label][nth]


def test_only_what_is_mine_and_bills_is_ticked_at_first_on_every_page() -> None:
    app = AppTest.from_function(draw, default_timeout=30).run()
    keys = app.session_state["picks"].keys
    assert keys == tuple(f"endpoint:kettle-{number}" for number in range(0, 50, 2))
    assert box(app, "kettle-0").value
    assert not box(app, "kettle-1").value
    assert len(app.checkbox) == 30, "fifteen endpoints, each with its deployment"
    took = min(app.run().session_state["took_ms"] for _ in range(3))
    assert took < MOST_MS, f"{took:.0f} ms for 200 things"


def test_a_part_is_ticked_by_itself_only_where_the_whole_stays_and_nothing_is_in_the_way() -> None:
    app = AppTest.from_function(draw, default_timeout=30).run()
    assert [(box(app, "demo", nth).value, box(app, "demo", nth).disabled) for nth in (0, 1, 3)] == [
        (True, True),  # goes with kettle-0
        (False, True),  # gets the traffic
        (False, False),
    ]
    assert "It gets 100% of the traffic" in texts(app)
    box(app, "demo", 3).check().run()
    assert "deployment:kettle-3/demo" in app.session_state["picks"].keys


def draw_cluster() -> None:
    from core.catalog.prices import Price
    from core.teardown.inventory import Inventory, Item
    from pages.parts.operate.tree import draw_tree

    told = {"price": Price(2.0), "per_hour": 2.0, "mine": True}
    whole = Item("compute", "gpu", compute="cluster", state="Succeeded", **told)
    job = Item("run", "brief-owl", parent=whole.key, state="Running", **told)
    draw_tree(Inventory((whole, job, Item("run", "old-owl", state="Completed", bytes=10, mine=True))), ())


def test_a_job_ends_with_its_cluster_and_a_cluster_is_not_called_succeeded() -> None:
    app = AppTest.from_function(draw_cluster, default_timeout=30).run()
    said = [text.value for text in app.text]
    assert said == ["cluster · $2.00/h · yours", "job · Running · $2.00/h · yours"]
    assert "Ends with gpu" in texts(app)
    app.segmented_control(key="what").set_value("All").run()
    assert "job outputs · Completed" in texts(app)


def test_a_tick_outlives_its_page_and_a_filter_lets_only_what_it_shows_go() -> None:
    app = AppTest.from_function(draw, default_timeout=30).run()
    box(app, "kettle-0").uncheck()
    box(app, "kettle-1").check().run()
    app.session_state["tree-page"] = 2
    app.run()
    keys = app.session_state["picks"].keys
    assert ("endpoint:kettle-0" in keys, "endpoint:kettle-1" in keys) == (False, True)
    app.text_input[0].set_value("kettle-1").run()
    assert set(app.session_state["picks"].keys) == {f"endpoint:kettle-{n}" for n in (1, 10, 12, 14, 16, 18)}
    assert "Ticked, but not shown, so it stays: kettle-2" in texts(app)
    app.selectbox[1].set_value("ben@contoso.com").run()
    assert app.session_state["picks"].keys == ("endpoint:kettle-1",)


def test_what_a_link_asks_for_is_ticked_alone_whatever_was_ticked_before() -> None:
    app = AppTest.from_function(draw, default_timeout=30).run()
    box(app, "kettle-2").uncheck().run()
    app.session_state["asked"] = ("endpoint:kettle-1",)
    app.run()
    assert app.session_state["picks"].keys == ("endpoint:kettle-1",)
    assert [each.value for each in app.checkbox if each.label.startswith("kettle")] == [True] + [False] * 14
    box(app, "kettle-0").check().run()
    assert app.session_state["picks"].keys == ("endpoint:kettle-1", "endpoint:kettle-0")
    app.session_state["asked"] = ()
    app.run()
    assert "endpoint:kettle-2" not in app.session_state["picks"].keys
