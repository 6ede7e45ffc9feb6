"""What a data set holds, in numbers: rows, tokens, lengths, turns, roles, languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from core import dataset as datasets
from core.azureml.settings import LOCAL
from core.catalog import base_models
from core.catalog.prices import PRICE_UNKNOWN, not_a_bill
from core.dataset import ChatDataset
from core.launch.drafts import Draft
from core.launch.estimate import measure_work
from core.launch.preflight import find_limit
from core.launch.rows import deal_rows
from core.recipe import Recipe, build_recipe
from pages.parts.kit import charts, reads, words
from pages.parts.kit.notices import ready
from pages.parts.kit.tiles import draw_tile
from pages.parts.tune.plan import read_current_plan

_LISTED = 6


def read_recipe(draft: Draft) -> tuple[Recipe | None, int]:
    """Return the settings of a draft, and after how many tokens these cut a row; None and -1 while not known."""
    if not draft.model:
        return None, -1
    model = reads.read(base_models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value
    if model is None:
        return None, -1
    recipe = build_recipe(model.defaults, draft.parameters, here=draft.connection == LOCAL)
    return recipe, find_limit(recipe, model)


def draw_tiles(dataset: ChatDataset, limit: int) -> None:
    """Draw how many rows and tokens there are, and where they came from."""
    stats = dataset.stats
    unit = "Tokens" if stats.in_tokens else "Tokens, about"
    learned = f"{words.number(stats.trained_length)} of them are learned." if stats.trained_length else None
    with st.grid(4, min_column_width=160):
        draw_tile("Train", words.number(dataset.rows))
        draw_tile("Test", words.number(dataset.test_rows), help=dataset.split_note or None)
        draw_tile(unit, words.number(stats.total_length), help=learned)
        cut = words.number(stats.count_longer(limit)) if limit > 0 else "0"
        draw_tile("Cut rows", cut, help=_cut_help(limit))
    st.caption(words.plain(f"{dataset.name} · {dataset.source} · {dataset.split_note}".rstrip(" ·")))


def draw_cost(draft: Draft, dataset: ChatDataset, recipe: Recipe | None, limit: int) -> None:
    """Draw what a run goes through and what it costs: "1.23 M tokens × 3 epochs = 3.69 M; 2 to 4 min, $0.00 on …"."""
    if recipe is None or not dataset.usable:
        return
    asked = (dataset.key, dataset.mark, limit, recipe.whole("seed"), recipe.counted["pad_to_max_length"])
    measured = reads.work("tokens-of-a-run", ":".join(map(str, asked)), lambda: _count_tokens(dataset, recipe, limit))
    measured = reads.keep_shown(f"tokens of {dataset.key}", measured)
    if not ready(measured, "Counting what a run goes through…", (24,), key="tokens-of-a-run"):
        return
    tokens, steps = measured.value, recipe.whole("max_steps")
    said = f"{'' if dataset.stats.in_tokens else 'About '}{words.amount(tokens)} tokens"
    if steps > 0:
        said += f" an epoch, {words.plural(steps, 'step')}"
    else:
        epochs = recipe.whole("num_train_epochs")
        said += f" × {words.plural(epochs, 'epoch')} = {words.amount(tokens * epochs)}"
    st.text(f"{said}; {_describe_cost(replace(draft, dataset=dataset.key))}")
    st.caption("Not counted: what is cut off, and the rows that validate.")


def _count_tokens(dataset: ChatDataset, recipe: Recipe, limit: int) -> float:
    """Return the tokens of one epoch; takes 0.1 s for 200,000 rows."""
    return measure_work(recipe, deal_rows(dataset, limit, recipe.whole("seed")), 1, 1).tokens


def _describe_cost(draft: Draft) -> str:
    """Return "2 to 4 min, $0.00 on this-machine.", or why that is not known. Never waits."""
    if not draft.compute:
        return f"{PRICE_UNKNOWN} until a compute is chosen."
    snapshot = read_current_plan(draft)
    if snapshot.value is None or snapshot.value.estimate is None:
        return f"{PRICE_UNKNOWN}: {snapshot.error.message}" if snapshot.error else "time and price are being read…"
    told, price = snapshot.value.estimate, snapshot.value.compute.price
    listed = "" if price.is_free or told.cost.low is None else f" {not_a_bill(price.factor)}"
    return f"{told.time_words}, {told.cost_words} on {snapshot.value.compute.name}.{listed}"


def draw_lengths(dataset: ChatDataset, limit: int) -> None:
    """Draw how long the rows are, and what of them is cut."""
    st.header("Length in tokens")
    stats = dataset.stats
    if not stats.lengths:
        st.text("No row could be measured.")
        return
    charts.draw_lengths(stats.histogram(), limit=limit if 0 < limit <= stats.longest * 2 else None)
    average = stats.total_length / max(1, sum(stats.lengths.values()))
    st.caption(
        f"Average {words.number(average)}, longest {words.number(stats.longest)} {words.plain(stats.length_unit)}."
    )
    if cut := stats.count_cut(limit):
        share = cut / max(1, stats.total_length)
        st.text(
            f"{words.plural(stats.count_longer(limit), 'row')} longer than {words.number(limit)}: "
            f"{words.plural(cut, 'token')} ({share:.1%}) {'is' if cut == 1 else 'are'} cut off."
        )


def draw_contents(dataset: ChatDataset) -> None:
    """Draw how many messages rows have, who speaks, and in which languages."""
    st.header("What is in it")
    stats = dataset.stats
    turns, roles, languages = st.columns(3, gap="medium")
    with turns:
        _draw_counts("Messages a row", "Rows", {str(count): rows for count, rows in sorted(stats.turns.items())})
    with roles:
        _draw_counts("Role", "Messages", dict(sorted(stats.roles.items(), key=lambda count: -count[1])))
    with languages:
        counted = reads.work("languages", str(dataset.train_path), lambda: datasets.count_languages(dataset.train_path))
        if ready(counted, "Looking at languages…", (120,), key="languages"):
            seen = counted.value
            _draw_counts("Language", "Rows", dict(seen.shares))
            if seen.sampled:
                st.caption(f"Judged from {words.number(seen.looked_at)} rows, spread evenly.")


def _draw_counts(what: str, unit: str, counts: Mapping[str, int]) -> None:
    if not counts:
        st.caption(f"{what}: nothing to count.")
        return
    listed = list(counts.items())
    shown = listed if len(listed) <= _LISTED else listed[: _LISTED - 1]
    rows = [{what: words.plain(name), unit: words.number(count)} for name, count in shown]
    if rest := listed[len(shown) :]:
        rows.append({what: f"{len(rest)} others", unit: words.number(sum(count for _, count in rest))})
    total = max(1, sum(counts.values()))
    most, most_count = max(listed, key=lambda count: count[1])
    st.table(rows, hide_index=True, alt=f"{what}: {most} in {most_count / total:.0%} of {words.number(total)}.")


def _cut_help(limit: int) -> str:
    return f"Rows longer than {words.number(limit)} tokens lose their end." if limit > 0 else "No limit is known yet."
