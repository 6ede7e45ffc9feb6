"""The card beside a set-up: its checks, the estimate, what will run, and the one button that starts just that."""

from __future__ import annotations

import streamlit as st

from core import operations, overview
from core.azureml.reader import Snapshot
from core.catalog.prices import Price, not_a_bill
from core.errors import Conflict
from core.launch import drafts, part
from core.launch.drafts import Draft
from core.launch.plan import Check, LaunchPlan
from core.operations import Operation
from core.teardown.caps import Wanted, to_agreed
from pages.parts.data.checks import follow
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import Confirm, action, open_dialog
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_error, draw_hint
from pages.parts.kit.state import ui
from pages.parts.operate.caps import check_start, choose_cap, read_cap, say_cap
from pages.parts.setup import choices
from pages.parts.tune.naming import find_problem
from pages.parts.tune.plan import find_started, find_tokenizer, title_of
from pages.parts.tune.recipe import save_settings

_BADGES = {
    "ok": ("OK", "check_circle", "green"),
    "open": ("Not yet", "pending", "gray"),
    "warning": ("Note", "warning", "orange"),
    "failed": ("Failed", "error", "red"),
}


def draw_ready(draft: Draft, snapshot: Snapshot[LaunchPlan]) -> None:
    """Draw the checks, the estimate and the one button."""
    plan = snapshot.value
    key = _place_button(draft.id)
    if plan is not None and _is_wished(plan) and plan.ready and not find_problem(draft):
        if not _asks(plan):
            link("runs", run=_start(plan).subject).go()
        open_dialog(key)
    with st.container(border=True):
        st.header(_describe_checks(plan), anchor=False)
        if plan is not None:
            with st.container(gap="xsmall"):
                for check in sorted(plan.checks, key=lambda check: check.state != "failed"):
                    draw_check(check)
                    _draw_way_out(draft, plan, check)
                if any(check.state == "open" for check in plan.checks) and (tokenizer := find_tokenizer(draft)):
                    follow(plan.dataset, tokenizer)
                _draw_queue(plan)
                _draw_estimate(plan)
        elif snapshot.error is not None:
            draw_error(snapshot.error, key="plan")
        else:
            for _ in range(5):
                st.skeleton(24)
        off = "The set-up cannot be read." if plan is None and snapshot.error else ""
        _draw_start(key, draft, plan, off=off or find_problem(draft))


def _describe_checks(plan: LaunchPlan | None) -> str:
    """Return "Ready" only where every check is finished and none has failed."""
    if plan is None:
        return "Checks"
    if plan.failures:
        return "Not ready"
    return "Not all is checked" if any(check.state == "open" for check in plan.checks) else "Ready"


def describe_run(plan: LaunchPlan) -> str:
    """Return what a start sends, such as "LoRA · 3 epochs · batch 4 · learning rate 2e-3"."""
    sent = plan.recipe.values
    steps, epochs, rate = sent.get("max_steps", -1), sent.get("num_train_epochs", 1), sent.get("learning_rate", "")
    by_steps = isinstance(steps, int) and steps > 0
    batch = "batch" if plan.total_batch == sent.get("per_device_train_batch_size") else "total batch"
    return " · ".join(
        (
            "LoRA" if plan.recipe.lora else "Full training",
            words.plural(int(steps), "step") if by_steps else f"{epochs} epoch{'s' if epochs != 1 else ''}",
            f"{batch} {plan.total_batch}",
            f"learning rate {words.exact(rate) if isinstance(rate, int | float) else rate}",
        )
    )


def draw_check(check: Check) -> None:
    """Draw what a check came to and, where it is not well, what to do."""
    word, icon, colour = _BADGES[check.state]
    detail = f" :small[{words.plain(check.detail)}]" if check.detail else ""
    st.markdown(f":{colour}-badge[:material/{icon}: {word}] **{words.plain(check.title)}**{detail}")
    if check.hint and check.state != "ok":
        draw_hint(check.hint, small=True)
    if check.link:
        st.link_button("Read the terms", check.link, icon=":material/open_in_new:")


def _draw_way_out(draft: Draft, plan: LaunchPlan, check: Check) -> None:
    """Draw the button that mends what a check found."""
    if check.fix:
        action(check.fix.label, save_settings, check.fix.settings, draft.id, key=f"fix-{check.title}", icon="build")
    if check.title == "Time":
        action(
            "Try a part first",
            part.try_part,
            plan,
            key="try-part",
            icon="content_cut",
            then=lambda made: link("launch", draft=made.id),
        )


def _draw_queue(plan: LaunchPlan) -> None:
    """Draw that the compute is busy, and for about how long."""
    conn, runs = reads.find_connection(), reads.read(overview.read_runs, max_age_s=5.0).value
    queue = overview.find_queue_of(conn, runs, plan.compute.name, plan.compute.max_nodes).words if conn and runs else ""
    if queue:
        st.markdown(f":gray-badge[:material/schedule: Queue] {words.plain(queue)}")


def _draw_estimate(plan: LaunchPlan) -> None:
    if plan.estimate is None:
        st.text("How long it takes is not known yet.")
        return
    st.markdown(f"**{words.plain(plan.estimate.time_words)}**, **{words.plain(plan.estimate.cost_words)}**")
    st.caption(words.plain(f"Basis: {plan.estimate.basis}. {plan.estimate.record}"))
    if lines := plan.estimate.lines:
        with st.expander("What it is made of", icon=":material/receipt_long:"):
            rows = [{"Part": line.title, "Time": line.time_words, "Cost": line.cost.words} for line in lines]
            st.table(rows, hide_index=True, alt="; ".join(f"{line.title}: {line.cost.words}" for line in lines))


def _draw_start(key: str, draft: Draft, plan: LaunchPlan | None, off: str) -> None:
    """Draw the button where it is always in view, with what it starts.

    It stays on while the checks run: a field's last edit arrives with the click on it.
    """
    failed = [check.title for check in plan.checks if check.state == "failed"] if plan else []
    if failed:
        verb = "checks fail" if len(failed) > 1 else "check fails"
        off = f"{len(failed)} {verb}: {', '.join(failed).lower()}."
    cost = plan.estimate.cost_words if plan and plan.estimate else "price unknown"
    label = f"Start run on Azure, {words.plain(cost)}" if _costs_money() else "Start run"
    conn, ticks = reads.find_connection(), tuple[str, ...]()
    if plan and conn and conn.costs_money:
        choose_cap("run", key=_cap(draft.id), currency=plan.compute.price.currency)
        wanted = Wanted(_price(plan), compute=plan.compute.name, nodes=plan.recipe.whole("num_nodes_finetune"))
        blocked, ticks = check_start(conn, wanted)
        off = off or blocked
    question = _question(plan, label, cost, ticks) if plan and _asks(plan) else None
    with st.bottom:
        said, button = st.columns([2, 1], gap="medium", vertical_alignment="center")
        with said:
            st.markdown(f"**{words.plain(describe_run(plan))}**" if plan else "Reading the set-up…")
            if _wish(draft.id) in ui().notes:
                st.caption("It starts when the checks are done.")
        with button:
            action(
                label,
                _begin,
                key,
                draft.id,
                plan,
                key=key,
                type="primary",
                icon="play_arrow",
                width="stretch",
                off=off,
                confirm=question,
                then=lambda begun: link("runs", run=begun.subject) if begun else None,
            )


def _price(plan: LaunchPlan) -> Price:
    """Return what an hour of a run on all its nodes costs."""
    return plan.compute.price.times(plan.recipe.whole("num_nodes_finetune"))


def _cap(draft_id: str) -> str:
    return f"launch-{draft_id}"


def _question(plan: LaunchPlan, label: str, cost: str, ticks: tuple[str, ...]) -> Confirm:
    time = f"It takes {plan.estimate.time_words}: {cost}." if plan.estimate else cost
    time += f" {not_a_bill(plan.compute.price.factor)}" if _costs_money() else ""
    cap = say_cap("run", key=_cap(plan.draft.id), currency=plan.compute.price.currency) if _costs_money() else ""
    place = f"{plan.model.name} on {plan.compute.name} ({plan.compute.size}), {plan.compute.price.words}."
    asked = plan.warnings if _costs_money() else plan.confirmations
    return Confirm(
        title="Start a run that costs money?" if _costs_money() else "Start it all the same?",
        yes=label,
        keep="Keep the draft",
        lines=(place, describe_run(plan), time, cap),
        ticks=(*ticks, *(f"{check.title}: {check.detail}" for check in asked)),
        icon="play_arrow",
    )


def _asks(plan: LaunchPlan) -> bool:
    return _costs_money() or bool(plan.confirmations)


def _begin(key: str, draft_id: str, plan: LaunchPlan | None) -> Operation | None:
    """Start what was checked and shown; where an edit came with the click, wish to start once that is checked."""
    stored = drafts.get_draft(draft_id)
    if started := find_started(stored):
        if ui().notes.get(f"started-{draft_id}") == started.id:
            return started  # the second click of two
        raise Conflict(f"This set-up was started as {title_of(started)} in another tab.", "Nothing else was started.")
    if choices.find_news(draft_id) or key != _place_button(draft_id):
        raise Conflict(
            "Nothing was started: another tab had changed the set-up.", "Look at what is different, and start again."
        )
    if plan is not None and plan.draft.revision == stored.revision:
        return _start(plan)
    ui().notes[_wish(draft_id)] = stored
    return None


def _start(plan: LaunchPlan) -> Operation:
    """Record the run; the list of runs is read anew."""
    cap, ends_at_cap = read_cap(key=_cap(plan.draft.id), currency=plan.compute.price.currency)
    begun = operations.start_launch(plan, agreed=to_agreed(_price(plan)), cap=cap, ends_at_cap=ends_at_cap)
    ui().notes[f"started-{plan.draft.id}"] = begun.id
    reads.forget(overview.read_runs)
    return begun


def _place_button(draft_id: str) -> str:
    """Return the button's key, which is another once the draft was changed elsewhere: a click on what was seen before
    is not one on what is there now. An edit of this tab leaves it, for the click that follows it.
    """
    return fields.place(f"start-{draft_id}", choices.find_last_news(draft_id)).key


def _is_wished(plan: LaunchPlan) -> bool:
    """Take the wish to start, and return whether it was for what this plan starts."""
    wished: Draft | None = ui().notes.pop(_wish(plan.draft.id), None)
    return wished is not None and not drafts.list_differences(wished, plan.draft)


def _wish(draft_id: str) -> str:
    return f"wish-{draft_id}"


def _costs_money() -> bool:
    conn = reads.find_connection()
    return conn is not None and conn.costs_money
