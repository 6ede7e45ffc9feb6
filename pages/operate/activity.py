"""Activity: who did what here, and whether it arrived. What failed can be tried again; nothing else is changed."""

import streamlit as st

from core import operations
from pages.parts.kit import words
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui, url_id
from pages.parts.operate.activity import draw_change
from pages.parts.operate.alerts import draw_alerts

st.title("Activity", anchor=False)

known = operations.list_operations(ui().alias, limit=100)
if not known:
    draw_empty("Nothing has been changed yet.")
else:
    rows = [
        {"What": one.title, "Outcome": one.outcome, "When": words.moment(one.created_at), "Who": one.user}
        for one in known
    ]
    alt = f"{words.plural(len(rows), 'change')}; the newest is {rows[0]['What']}, {rows[0]['Outcome']}"
    st.dataframe(rows, hide_index=True, alt=alt)
    by_id = {one.id: one for one in known[:12]}
    wanted = url_id("change")
    if wanted and wanted not in by_id:
        if older := operations.find_operation(wanted):
            by_id[older.id] = older
        else:
            st.text(f"There is no change '{wanted}' here.")
    opened = st.radio(
        "Open a change",
        list(by_id),
        index=None,
        format_func=lambda key: words.plain(by_id[key].title),
        captions=[words.plain(f"{one.outcome} · {words.moment(one.created_at)}") for one in by_id.values()],
        key="change",
        bind="query-params",
    )
    if opened:
        draw_change(by_id[opened])
    moving = any(not one.finished for one in known)
    live(
        lambda: [one.outcome for one in operations.list_operations(ui().alias, limit=100)],
        key="activity",
        run_every=2.0 if moving else None,
    )
draw_alerts(ui().alias)
