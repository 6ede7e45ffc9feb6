"""A receipt on the page and on paper: it says that it is not complete, and others' words stay words."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from core.teardown.receipts import Gone, Receipt
from pages.parts.operate.receipts import to_html

LOOK = {"method": "DELETE", "status": 202, "at": "2026-11-28T15:08:00+00:00", "request_id": "4f2a"}


def receipt() -> Receipt:
    gone = Gone(
        "endpoint",
        "<img src=x onerror=alert(1)>",
        "",
        "delete",
        "2026-11-28T15:09:05+00:00",
        ("2026-11-28T15:09:05+00:00",),
        started="2026-11-28T13:09:05Z",
        cost=7.34,
        currency="USD",
        requests=(LOOK,),
    )
    noted = ("<script>alert(1)</script>\nsecond line",)
    return Receipt("R-0007", "ml-dev", gone.at, (gone,), notes=noted, second_look_at="2026-11-28T15:10:05Z")


def draw() -> None:
    from pages.parts.operate.receipts import draw_receipt
    from tests.pages.operate.test_receipts import receipt

    draw_receipt(receipt())


def test_a_receipt_on_paper_holds_others_words_as_text_only() -> None:
    page = to_html(receipt())
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;<br>second line" in page
    assert "DELETE 202 4f2a" in page
    assert "no: second look at 2026-11-28T15:10:05Z" in page


def test_a_receipt_says_what_ran_what_it_cost_and_when_it_will_be_complete() -> None:
    app = AppTest.from_function(draw, default_timeout=30).run()
    assert not app.exception
    said = [text.value for text in app.text]
    assert "Not complete yet: second look at 15:10:05 UTC. It completes itself." in said
    assert said[1].startswith("Gone 15:09:05 UTC: endpoint ")
    assert "Was there 2 h" in app.caption[0].value
    assert "7\\.34 at list price" in app.caption[0].value
