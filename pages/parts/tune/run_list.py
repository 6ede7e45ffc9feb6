"""The list of runs: filters and order over all of them, and one table whose rows open and are ticked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from core import overview
from core.runs.choice import STATES, Filters, find_before
from core.runs.comparison import MOST_COMPARED
from core.runs.states import Run
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, link_button
from pages.parts.kit.elements.table import draw_table
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.tune.again import link_again
from pages.parts.tune.run_columns import CHOICES, list_columns, make_row, sort_runs

_PER_PAGE = 25
# Of each filter that is chosen from what there is: its words, and what a run has of it.
_FACETS: Mapping[str, tuple[str, Callable[[Run], str]]] = {
    "model": ("Model", lambda run: run.model),
    "data": ("Data", lambda run: run.dataset),
    "who": ("Started by", lambda run: run.owner),
}
_WORDS = {"q": "Search", "state": "State"} | {name: words for name, (words, _) in _FACETS.items()}


def draw_list() -> None:
    """Draw all runs of this workspace."""
    st.title("Runs", anchor=False)
    snapshot = reads.read_runs()
    if not ready(snapshot, "Reading the runs…", (44, 220, 160), key="runs"):
        return
    if not snapshot.value:
        if snapshot.error is not None:  # there were none when it last answered, which says nothing of now
            draw_error(snapshot.error, key="runs")
        else:
            draw_empty("No runs yet.", link("launch"), "Go to Launch")
        return
    filters, chosen = _draw_filters(snapshot.value)
    found = filters.choose(snapshot.value)
    if not found:
        _draw_none(filters, snapshot.value)
        return
    rest = all(run.finished for run in found) and is_at_rest(_cut_page(_sort(found)))
    every_s = None if rest else 2.0
    live(lambda: _draw_found(filters, chosen), key="runs", run_every=every_s)
    _draw_bar({run.name: run for run in found})
    if snapshot.value.note:
        st.caption(snapshot.value.note)


def _draw_filters(runs: Sequence[Run]) -> tuple[Filters, Sequence[str]]:
    """Draw the filters and the choice of columns, all of which the address keeps; returns them."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search runs",
            type="search",
            live=True,
            key="q",
            bind="query-params",
            width=280,
            placeholder="name, model, data",
            on_change=_turn_to_first,
        )
        states = st.pills(
            "Show", STATES, selection_mode="multi", key="state", bind="query-params", on_change=_turn_to_first
        )
        picked = {}
        with st.popover("Filters", icon=":material/filter_list:", key="filters"):
            for name, (label, of) in _FACETS.items():
                there = {of(run) for run in runs} | set(st.query_params.get_all(name))
                picked[name] = st.multiselect(
                    label, sorted(there - {""}), key=name, bind="query-params", on_change=_turn_to_first
                )
        with st.popover("Columns", icon=":material/view_column:", key="choose-columns"):
            columns = st.multiselect(
                "Columns", CHOICES, key="columns", bind="query-params", placeholder="Those that there is room for"
            )
    return Filters(text, tuple(states or ()), **{name: tuple(values) for name, values in picked.items()}), columns


def _turn_to_first() -> None:
    st.session_state["page"] = 1


def _draw_none(filters: Filters, runs: Sequence[Run]) -> None:
    """Say that no run has all that was asked for, and offer to clear each filter."""
    st.text("No run matches all of these.")
    with st.container(horizontal=True):
        for name in filters.active:
            rest = words.plural(len(filters.without(name).choose(runs)), "run")
            label = f"Clear {_WORDS[name].lower()}: {rest}"
            action(label, _clear, [name], key=f"clear-{name}", icon="filter_list_off")
        if len(filters.active) > 1:
            action("Clear all", _clear, filters.active, key="clear-all", icon="filter_list_off")


def _clear(names: Sequence[str]) -> None:
    for name in names:
        st.session_state[name] = "" if name == "q" else []
    _turn_to_first()


def _draw_found(filters: Filters, chosen: Sequence[str]) -> object:
    runs: Sequence[Run] = reads.read(overview.read_runs, max_age_s=2.0).value or []
    found = _sort(filters.choose(runs))
    st.caption(_count(filters, len(found), len(runs)))
    table = st.container()
    pages = -(-len(found) // _PER_PAGE)
    if pages > 1:
        st.pagination(pages, key="page", bind="query-params")
    shown, columns = _cut_page(found), list_columns(chosen, sortable=True)
    before = find_before(runs) if "Changed" in chosen else {}
    with table:
        ticked = draw_table(
            columns,
            [make_row(run, columns, before.get(run.name)) for run in shown],
            key="runs-table",
            alt=f"{words.plural(len(found), 'run')}; the first is {shown[0].title}" if shown else "no run",
            sort=url_id("sort") or "",
            on_sort=_sort_by,
            ticked=ui().view.get("ticked", ()),
            turn=ui().view.get("turn", 0),
        )
    there = {run.name for run in found}
    ui().view["ticked"] = tuple(name for name in ticked if name in there)
    moving = [(run.name, run.state_word) for run in found if not run.finished]
    return ui().view["ticked"], moving, len(runs), is_at_rest(shown)


def _count(filters: Filters, found: int, all_of_them: int) -> str:
    if not filters.active:
        return words.plural(all_of_them, "run")
    said = "; ".join(
        f"{_WORDS[name]}: {value if isinstance(value, str) else ', '.join(value)}"
        for name, value in vars(filters).items()
        if value
    )
    return words.plain(f"{found} of {words.plural(all_of_them, 'run')} · {said}")


def _sort(runs: Sequence[Run]) -> list[Run]:
    return sort_runs(runs, url_id("sort") or "")


def _sort_by(title: str) -> None:
    """Sort by a column; the other way round, then not at all, where that is how it is sorted."""
    now = url_id("sort")
    set_url_id("sort", {title: f"-{title}", f"-{title}": None}.get(now or "", title))
    _turn_to_first()


def _cut_page(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the runs of the page that is open, of the last page where there are fewer."""
    wanted = str(st.session_state.get("page") or url_id("page") or 1)
    page = min(int(wanted) if wanted.isdecimal() else 1, max(1, -(-len(runs) // _PER_PAGE)))
    return runs[(page - 1) * _PER_PAGE : page * _PER_PAGE]


def is_at_rest(runs: Sequence[Run]) -> bool:
    """Whether nothing of these runs can change in a list: they have ended, and all that they measured is read."""
    return all(run.finished and reads.is_final(run, reads.read_measures(run)) for run in runs)


def _draw_bar(found: Mapping[str, Run]) -> None:
    """Draw at the bottom, where it moves nothing, what can be done with the runs that are ticked."""
    ticked = [name for name in ui().view.get("ticked", ()) if name in found]
    if not ticked:
        return
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small", key="ticked"):
        st.text(f"{len(ticked)} ticked", width="content")
        fits = 2 <= len(ticked) <= MOST_COMPARED
        action(
            "Compare",
            lambda: link("compare", runs=",".join(ticked)),
            key="compare",
            type="primary",
            icon="compare_arrows",
            off="" if fits else f"Compare takes 2 to {MOST_COMPARED} runs.",
        )
        if len(ticked) == 1:
            link_button("Start again…", link_again(ticked[0]), key="again", icon="replay")
        action("Clear", _untick, key="untick", icon="close")


def _untick() -> None:
    ui().view.update(ticked=(), turn=ui().view.get("turn", 0) + 1)
