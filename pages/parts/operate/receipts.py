"""What is gone, as the receipts say it: on the page, as a page to print, and held against the workspace of today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from core import operations
from core.azureml.connection import Connection
from core.catalog.prices import PRICE_UNKNOWN, money
from core.operations.receipt_check import check_receipt
from core.serving.lineage_check import Claim
from core.teardown.receipts import Gone, Receipt
from core.words import duration
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, draw_download, drawer, open_dialog
from pages.parts.kit.notices import ready
from pages.parts.kit.state import ui

_VERBS = {"archive": "Archived", "cancel": "Ended"}
_BILL = ("endpoint", "deployment", "compute")
_PRINTED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:14px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%;break-inside:avoid;margin:1rem 0}}
th,td{{border-bottom:1px solid #bbb;padding:.2rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}}
th{{width:11rem;font-weight:600}}</style><h1>{title}</h1>{tables}</html>
"""


def read_claims(conn: Connection, receipt: Receipt) -> list[Claim]:
    """Hold a receipt against the workspace of today."""
    return list(check_receipt(conn, receipt))


def draw_receipt(receipt: Receipt, where: str = "") -> None:
    """Draw what is gone, seen twice, and what bills now. where: tells it from the same one elsewhere on the page."""
    with st.container(border=True, gap="small", key=f"receipt-{where}{receipt.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            after = receipt.per_hour_after
            st.badge(
                f"Billing: {words.plain(_rate(receipt))}",
                icon=":material/check_circle:",
                color="gray" if after else "green",
            )
            st.text(f"Receipt {receipt.id}")
        for gone in receipt.gone:
            st.text(_summarise(gone))
            if ran := " · ".join(f"{name} {value}" for name, value in _list_ran(gone).items()):
                st.caption(words.plain(ran))
        if receipt.second_look_at:
            second = words.to_utc(receipt.second_look_at)
            st.text(f"Not complete yet: second look at {second:%H:%M:%S} UTC. It completes itself.")
        for note in receipt.notes:
            st.text(note)
        with st.container(horizontal=True):
            at = f"{where}{receipt.id}"
            draw_download("JSON", receipt.to_json(), f"{receipt.id}.json", key=f"json-{at}", type="tertiary")
            page = to_html(receipt)
            draw_download("Print", page, f"{receipt.id}.html", key=f"html-{at}", type="tertiary", icon="print")
            key = f"check-{at}"
            action("Check again", open_dialog, key, key=f"open-{key}", type="tertiary", icon="fact_check")
            drawer(key, f"{receipt.id} today", lambda: _draw_claims(receipt), icon="fact_check")


def _draw_claims(receipt: Receipt) -> None:
    claims = reads.read(read_claims, receipt, max_age_s=10.0)
    if not ready(claims, "Asking the workspace…", (40,), key=f"claims-{receipt.id}") or claims.value is None:
        return
    for claim in claims.value:
        icon = "check_circle" if claim.holds else "error"
        said = words.plain(f"{claim.what}: {claim.outcome}")
        st.badge(said, icon=f":material/{icon}:", color="green" if claim.holds else "orange")


def to_html(receipt: Receipt) -> str:
    """Return a page to print. Everything on it is text: names and notes are others' words."""
    head = {
        "Workspace": receipt.workspace or receipt.connection,
        "Written": words.moment(receipt.at),
        "Billing before": f"{money(receipt.per_hour_before, receipt.currency)}/h",
        "Billing after": _rate(receipt),
        "Complete": f"no: second look at {receipt.second_look_at}" if receipt.second_look_at else "yes",
        "Notes": "\n".join(receipt.notes),
    }
    tables = [_to_table(head)]
    for gone in receipt.gone:
        requests = [f"{each['at']} {each['method']} {each['status']} {each['request_id']}" for each in gone.requests]
        facts = {gone.title: _summarise(gone), **_list_ran(gone), "Requests": "\n".join(requests)}
        tables.append(_to_table(facts))
    sizes = {f"{item['kind']} {item['name']}": item.get("bytes") for item in receipt.kept}
    kept = [f"{name}, {words.size(size)}" for name, size in sizes.items() if isinstance(size, int) and size]
    tables.append(_to_table({"Files that stay, and bill as storage until they are deleted": "\n".join(kept)}))
    return _PRINTED.format(title=escape(f"Receipt {receipt.id}"), tables="".join(tables))


def _to_table(facts: Mapping[str, str]) -> str:
    rows = (f"<tr><th>{escape(name)}</th><td>{_lines(text)}</td></tr>" for name, text in facts.items() if text)
    return f"<table>{''.join(rows)}</table>"


def _lines(text: str) -> str:
    return escape(words.visible(text)).replace("\n", "<br>")


def _summarise(gone: Gone) -> str:
    """Return "Gone 15:02:11 UTC: endpoint kettle, checked twice, 3 MB freed"."""
    seen = {0: "", 1: "once", 2: "twice"}.get(len(gone.checks), f"{len(gone.checks)} times")
    parts = (
        f"{_VERBS.get(gone.what, 'Gone')} {words.clock(gone.at)}: {gone.title}",
        f"checked {seen}" if seen else "",
        f"{words.size(gone.bytes_freed)} freed" if gone.bytes_freed else "",
    )
    return ", ".join(filter(None, parts))


def _list_ran(gone: Gone) -> dict[str, str]:
    """Return since when it was there, how long, and about what it cost; nothing on a receipt from before that stood."""
    if not gone.requests:
        return {}
    facts = {"Made": words.moment(gone.started) if gone.started else ""}
    if gone.seconds is not None and gone.kind in _BILL:
        facts["Was there"] = duration(gone.seconds)
    if gone.kind in _BILL:
        facts["Cost about"] = "unknown" if gone.cost is None else f"{money(gone.cost, gone.currency)} at list price"
    for each in gone.left:
        size = words.size(each["bytes"]) if each["bytes"] is not None else "size unknown"
        facts[each["what"]] = f"{size}, billed until {words.moment(each['until'])}" if each["until"] else size
    return {name: text for name, text in facts.items() if text}


def _rate(receipt: Receipt) -> str:
    after = receipt.per_hour_after
    return f"{money(after, receipt.currency)}/h" if after is not None else PRICE_UNKNOWN


def draw_receipts() -> None:
    """Draw every receipt as a table, newest first."""
    receipts: Sequence[Receipt] = operations.list_receipts(ui().alias)
    if not receipts:
        return
    st.header("Receipts", anchor=False)
    rows = [
        {
            "Receipt": receipt.id,
            "When": words.moment(receipt.at),
            "Gone": ", ".join(gone.title for gone in receipt.gone),
        }
        for receipt in receipts
    ]
    said = f"{len(rows)} receipts; the newest is {receipts[0].id}"
    chosen = st.dataframe(
        rows, hide_index=True, alt=said, on_select="rerun", selection_mode="single-row", key="receipts"
    )
    for row in chosen["selection"]["rows"]:
        draw_receipt(receipts[row], "chosen-")
