"""The strip on every page agrees with what is there: what an operation makes or deletes is read anew at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from core.catalog.prices import Price
from core.operations import list_everything, start_create_compute, start_teardown
from core.teardown.plan import plan_teardown
from tests.azure.prices import PER_HOUR
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.pages.apps import open_app, run_until, texts

KEPT = "kept"


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator


def says(app: AppTest, words: str) -> bool:
    """Whether the strip's link to Teardown ends so."""
    return any(str(link.proto.label).endswith(words) for link in app.get("page_link"))


def count_looks(walk: Walk) -> int:
    return len(walk.azure.rules.asked(r"^GET .*/computes\?"))


def test_what_was_made_or_deleted_is_in_the_strip_at_the_next_look(walk: Walk) -> None:
    """The reading is good for ten seconds; the end of an operation makes it old at once."""
    app = run_until(open_app("overview", at=walk.conn.alias), lambda app: says(app, "· $0.00/h"))
    walk.finish(start_create_compute(walk.conn.alias, KEPT, SIZE, 1, 1))
    run_until(app, lambda app: says(app, f"· {Price(PER_HOUR[SIZE]).words}"), timeout_s=9)
    run_until(app, lambda app: "yours · never deleted" in texts(app), timeout_s=9)
    assert "Not counted here: storage" in texts(app)
    before = count_looks(walk)
    plan = plan_teardown(walk.conn, list_everything(walk.conn), [f"compute:{KEPT}"])
    walk.finish(start_teardown(plan, KEPT))
    run_until(app, lambda app: says(app, "· $0.00/h"), timeout_s=9)
    assert count_looks(walk) > before
