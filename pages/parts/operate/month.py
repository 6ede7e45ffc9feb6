"""What a month cost: a bar for each day, a row for each resource, a file to download."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import streamlit as st

from core.azureml.connection import Connection
from core.catalog.prices import money, not_a_bill
from core.teardown.costs import Cost
from core.teardown.months import Month, Share, read_month
from pages.parts.kit import charts, reads, words
from pages.parts.kit.action import draw_download
from pages.parts.kit.notices import ready
from pages.parts.kit.state import set_url_id, url_id

_MOST_BARS = 6
_OTHERS = "others"


def draw_month(conn: Connection) -> None:
    """Draw a month that the reader chooses, of what this home saw; nothing where nothing costs money."""
    if not conn.costs_money:
        return
    st.header("By month", anchor=False)
    snapshot = reads.read(read_month, url_id("month") or "", max_age_s=30.0)
    if not ready(snapshot, "Adding up what was seen…", (260,), key="month") or snapshot.value is None:
        return
    found = snapshot.value
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [f"{each:%Y-%m}" for each in found.months]
        index = names.index(f"{found.begun:%Y-%m}")
        # `bind` would write the title into the link, and lose it while the month is read.
        st.selectbox("Month", names, index, format_func=_title, key="month-of", on_change=_choose, width=200)
        draw_download(
            "CSV by day",
            found.to_csv(),
            f"costs-{conn.settings.workspace_name}-{found.begun:%Y-%m}.csv",
            key="month-csv",
            help="A row for each resource and day.",
        )
    st.text(f"{found.title}: {found.cost.words if found.shares else 'nothing was seen to bill yet.'}")
    _draw_charts(found)
    if found.shares:
        _draw_table(found)
    st.caption(_explain(conn, found))


def _choose() -> None:
    set_url_id("month", str(st.session_state["month-of"]))


def _draw_charts(month: Month) -> None:
    """Draw a chart for each currency: two are never on one scale."""
    for currency, total in month.cost.amounts.items():
        unknown = _list_unknown(month, currency)
        if total or unknown:
            bars = _list_bars(month, currency)
            figure = charts.days_figure(bars, unknown, begun=month.begun, currency=currency)
            charts.draw_days(figure, currency, _describe(month, bars, currency))


def _list_bars(month: Month, currency: str) -> dict[str, dict[date, float]]:
    """Return amounts by resource and day; the cheaper ones are one."""
    named = [key for key, share in month.by_key.items() if share.cost.amounts.get(currency)]
    own = named if len(named) <= _MOST_BARS else named[: _MOST_BARS - 1]
    bars: dict[str, dict[date, float]] = {_name(key): {} for key in own}
    for share in month.shares:
        if amount := share.cost.amounts.get(currency):
            days = bars.setdefault(_name(share.key) if share.key in own else _OTHERS, {})
            days[share.day] = days.get(share.day, 0.0) + amount
    return bars


def _list_unknown(month: Month, currency: str) -> dict[date, str]:
    """Return what of each day is not known, of resources in this currency or in none that is known."""
    found: dict[date, list[str]] = {}
    for share in month.shares:
        amounts = month.by_key[share.key].cost.amounts
        if share.cost.unknown and (currency in amounts or not amounts):
            found.setdefault(share.day, []).append(f"{_name(share.key)}: {_unknown(share)}")
    return {day: "<br>".join(parts) for day, parts in found.items()}


def _unknown(share: Share) -> str:
    if share.unseen_hours:
        return f"{share.unseen_hours:.1f} h not seen"
    return "price unknown" if share.cost.unknown else ""


def _describe(month: Month, bars: Mapping[str, Mapping[date, float]], currency: str) -> str:
    """Say the conclusion of the chart."""
    days: dict[date, float] = {}
    for amounts in bars.values():
        for day, amount in amounts.items():
            days[day] = days.get(day, 0.0) + amount
    if not days:
        return f"{month.title}: {month.cost.words}."
    top = max(days, key=lambda day: days[day])
    dearest = f"most on {top.day} {top:%B}, {money(days[top], currency)}; most of it by {next(iter(bars))}"
    return f"{month.title}: {money(sum(days.values()), currency)} on {words.plural(len(days), 'day')}, {dearest}."


def _draw_table(month: Month) -> None:
    rows = [
        {
            "Resource": _name(share.key),
            "Kind": share.key.partition(":")[0],
            "Cost": Cost(share.cost.amounts).words if share.cost.amounts else share.cost.words,
            "Node hours": f"{share.node_hours:,.2f}",
            "Not known": _unknown(share),
        }
        for share in month.by_key.values()
    ]
    st.dataframe(rows, hide_index=True, alt="; ".join(f"{row['Resource']}: {row['Cost']}" for row in rows))


def _explain(conn: Connection, month: Month) -> str:
    factors = month.factors or {conn.settings.price_factor}
    several = "List prices at the share of that day, not your bill."
    said = not_a_bill(next(iter(factors))) if len(factors) == 1 else several
    seen = "Counted is what this home saw and what the workspace tells of before; days are UTC."
    return f"{said} {seen}"


def _name(key: str) -> str:
    return key.partition(":")[2]


def _title(month: str) -> str:
    return f"{datetime.strptime(month, '%Y-%m'):%B %Y}"
