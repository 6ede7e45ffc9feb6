"""Launch's block for several runs at once: values for one or two settings, all of them checked, timed and priced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core import operations, overview
from core.catalog.prices import not_a_bill
from core.errors import BadInput
from core.launch.drafts import Draft
from core.launch.group import MOST_RUNS, GroupPlan, parse_values, plan_group
from core.operations import Operation
from core.recipe import BY_NAME, Recipe, Value
from core.teardown.caps import Wanted, to_agreed
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.links import link
from pages.parts.operate.caps import check_start, read_cap
from pages.parts.tune.plan import read_facts
from pages.parts.tune.recipe import find_parameters
from pages.parts.tune.start import draw_check

_FIELDS = ("Setting", "Second setting")


def draw_several(draft: Draft, recipe: Recipe) -> None:
    """Draw the choice of values to try, what all of it takes, and the button that starts it."""
    with st.expander("Try several values", icon=":material/grid_view:", key="several"):
        st.text(f"A run for each value, or each pair of values of two settings; {MOST_RUNS} at most.")
        facts, group = read_facts(draft).value, None
        try:
            tried = _choose(draft, recipe)
            group = plan_group(facts, draft, tried) if facts and tried else None
        except BadInput as error:
            st.markdown(f":material/error: {words.plain(f'{error.message} {error.hint}')}")
        if group is not None:
            _draw_group(draft, group)


def _choose(draft: Draft, recipe: Recipe) -> Mapping[str, Sequence[Value]]:
    """Return the values to try by the setting's name; raises BadInput for one that the setting does not take."""
    known = find_parameters(recipe, "", basic=False)
    names = [parameter.name for parameter in known if not (recipe.here and parameter.idle_here)]
    typed = dict[str, str]()
    for label in _FIELDS:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.selectbox(
                label,
                names,
                None,
                format_func=lambda name: BY_NAME[name].label,
                key=f"try-{label}-{draft.id}",
                placeholder="None" if typed else "Choose one",
            )
            key = f"try-{label}-values-{draft.id}"
            text = st.text_input(f"Values of the {label.lower()}", key=key, placeholder="1e-4, 5e-4, 1e-3")
        if name and text.strip():
            typed.setdefault(name, text)
    return {name: parse_values(name, text) for name, text in typed.items()}


def _draw_group(draft: Draft, group: GroupPlan) -> None:
    rows = [
        {
            **{BY_NAME[name].label: str(value) for name, value in values.items()},
            "Time": plan.estimate.time_words if plan.estimate else "unknown",
            "Cost": plan.estimate.cost_words if plan.estimate else "unknown",
            "Check": ", ".join(check.title for check in plan.failures) or "Ready",
        }
        for values, plan in zip(group.values, group.plans, strict=True)
    ]
    alt = "; ".join(" ".join(map(str, values.values())) for values in group.values)
    st.dataframe(rows, hide_index=True, alt=f"{len(rows)} runs: {alt}", key=f"several-{draft.id}")
    for check, count in group.checks:
        draw_check(check)
        st.caption(f"In {count} of {len(rows)} runs.")
    how = "one after another" if group.at_once == 1 else f"{group.at_once} at a time"
    total = f"{group.time_words} in all, {how}", group.cost.words
    st.markdown(f"**{len(rows)} runs**: {words.plain(', '.join(total))}")
    _draw_start(draft, group, total)


def _draw_start(draft: Draft, group: GroupPlan, total: tuple[str, str]) -> None:
    plan, count = group.plans[0], len(group.plans)
    price, conn = plan.compute.price.times(plan.recipe.whole("num_nodes_finetune")), reads.find_connection()
    costs = conn is not None and conn.costs_money
    wanted = Wanted(plan.compute.price.times(group.nodes), compute=plan.compute.name, nodes=group.nodes)
    blocked, ticks = check_start(conn, wanted) if conn else ("", ())
    if group.failures:
        blocked = f"A check fails: {group.failures[0].title.lower()}."
    cap, ends = read_cap(key=f"launch-{draft.id}", currency=plan.compute.price.currency)
    lines = (
        f"{plan.model.name} on {plan.compute.name} ({plan.compute.size}), {plan.compute.price.words} a node.",
        f"Together {total[0]}: {total[1]}." + (f" {not_a_bill(plan.compute.price.factor)}" if costs else ""),
        f"The cap of {cap} is shared: each run has an equal part of it." if cap else "",
    )
    asked = [check for check, _ in group.checks if costs or check.confirm]
    label = f"Start {count} runs" + (f" on Azure, {words.plain(total[1])}" if costs else "")
    action(
        label,
        _start,
        group,
        to_agreed(price),
        cap,
        ends,
        key=f"start-several-{draft.id}",
        icon="play_arrow",
        off=blocked,
        confirm=Confirm(
            title=f"Start {count} runs?",
            yes=label,
            keep="Keep the draft",
            lines=tuple(filter(None, lines)),
            ticks=(*ticks, *(f"{check.title}: {check.detail}" for check in asked)),
            icon="play_arrow",
        ),
        then=lambda begun: link("compare", group=begun[0].change.group),
    )


def _start(group: GroupPlan, agreed: str, cap: str, ends_at_cap: bool) -> list[Operation]:
    """Record the runs; the list of runs is read anew."""
    begun = operations.start_group(group, agreed=agreed, cap=cap, ends_at_cap=ends_at_cap)
    reads.forget(overview.read_runs)
    return begun
