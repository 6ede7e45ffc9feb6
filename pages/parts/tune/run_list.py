"""The list of runs: filters and order over all of them, and one table whose rows open and are ticked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import streamlit as st

from core.azureml.reader import Snapshot
from core.runs.choice import STATES, Filters, find_before
from core.runs.index import RunList
from core.runs.states import Run
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action
from pages.parts.kit.elements.table import draw_table
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.tune.run_bar import draw_bar, read_archived
from pages.parts.tune.run_columns import CHOICES, list_columns, make_row, sort_runs

_PER_PAGE = 25
# Of each filter that is chosen from what there is: its words, and what a run has of it.
_FACETS: Mapping[str, tuple[str, Callable[[Run], Iterable[str]]]] = {
    "model": ("Model", lambda run: (run.model,)),
    "data": ("Data", lambda run: (run.dataset,)),
    "who": ("Started by", lambda run: (run.owner,)),
    "tag": ("Tag", lambda run: run.label_words),
}
_WORDS = {"q": "Search", "state": "State"} | {name: words for name, (words, _) in _FACETS.items()}


def draw_list() -> None:
    """Draw all runs of this workspace."""
    fields.keep_put()
    st.title("Runs", anchor=False)
    snapshot = _read_runs()
    if snapshot.value == [] and not _shows_archived():
        if snapshot.error is not None:  # there were none when it last answered, which says nothing of now
            draw_error(snapshot.error, key="runs")
        else:
            draw_empty("No runs yet.", link("launch"), "Go to Launch")
            link("runs", archived="true").draw("Archived runs", icon="archive")
        return
    filters, chosen = _draw_filters(snapshot.value or ())  # also while they are read: a field that is left out is lost
    if not ready(snapshot, "Reading the runs…", (220, 160), key="runs"):
        return
    found = filters.choose(snapshot.value)
    if not found:
        _draw_none(filters, snapshot.value)
    else:
        rest = not snapshot.value.active and is_at_rest(_cut_page(_sort(found)))
        live(lambda: _draw_found(filters, chosen), key="runs", run_every=None if rest else 2.0)
    by_name = {run.name: run for run in found}
    draw_bar([by_name[name] for name in ui().view.get("ticked", ()) if name in by_name], archived=_shows_archived())


def _shows_archived() -> bool:
    """Say whether the runs that are archived are shown, and no other."""
    return bool(st.session_state.get("archived", url_id("archived") == "true"))


def _read_runs() -> Snapshot[RunList]:
    return reads.read(read_archived) if _shows_archived() else reads.read_runs()


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
            placeholder="name, model, data, tag, note",
            on_change=_turn_to_first,
        )
        states = st.pills(
            "Show", STATES, selection_mode="multi", key="state", bind="query-params", on_change=_turn_to_first
        )
        picked = {}
        with st.popover("Filters", icon=":material/filter_list:", key="filters"):
            for name, (label, of) in _FACETS.items():
                there = {value for run in runs for value in of(run)} | set(st.query_params.get_all(name))
                if options := sorted(there - {""}):
                    picked[name] = st.multiselect(
                        label, options, key=name, bind="query-params", on_change=_turn_to_first
                    )
            st.toggle("Archived runs only", key="archived", bind="query-params", on_change=_turn_to_first)
        with st.popover("Columns", icon=":material/view_column:", key="choose-columns"):
            columns = st.multiselect(
                "Columns", CHOICES, key="columns", bind="query-params", placeholder="Those that there is room for"
            )
    return Filters(text, tuple(states or ()), **{name: tuple(values) for name, values in picked.items()}), columns


def _turn_to_first() -> None:
    st.session_state["page"] = 1


def _draw_none(filters: Filters, runs: Sequence[Run]) -> None:
    """Say that no run has all that was asked for, and offer to clear each filter."""
    st.text("No run matches all of these." if runs else "No run is archived.")
    with st.container(horizontal=True):
        for name in filters.active if runs else ():
            rest = words.plural(len(filters.without(name).choose(runs)), "run")
            label = f"Clear {_WORDS[name].lower()}: {rest}"
            action(label, _clear, {name: getattr(Filters(), name)}, key=f"clear-{name}", icon="filter_list_off")
        if len(filters.active) > 1:
            action("Clear all", _clear, vars(Filters()), key="clear-all", icon="filter_list_off")
        if _shows_archived():
            action("Show the others", _clear, {"archived": False}, key="clear-archived", icon="unarchive")


def _clear(filters: Mapping[str, str | tuple[str, ...] | bool]) -> None:
    fields.put({name: list(empty) if isinstance(empty, tuple) else empty for name, empty in filters.items()})
    _turn_to_first()


def _draw_found(filters: Filters, chosen: Sequence[str]) -> object:
    runs = _read_runs().value or RunList()
    found = _sort(filters.choose(runs))
    count = _count(filters, len(found), len(runs))
    st.caption(f"{count} · {words.plain(runs.note)}" if runs.note else count)
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
    moving = [(run.name, run.state_word) for run in runs[: runs.active]]
    return ui().view["ticked"], moving, len(runs), is_at_rest(shown)


def _count(filters: Filters, found: int, all_of_them: int) -> str:
    of = words.plural(all_of_them, "archived run" if _shows_archived() else "run")
    if not filters.active:
        return of
    said = "; ".join(
        f"{_WORDS[name]}: {value if isinstance(value, str) else ', '.join(value)}"
        for name, value in vars(filters).items()
        if value
    )
    return words.plain(f"{found} of {of} · {said}")


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
