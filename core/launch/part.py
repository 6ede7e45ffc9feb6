"""A part of a long run first: so many rows as end in about ten minutes, as a run of its own."""

from __future__ import annotations

from core.dataset import take_part
from core.errors import BadInput
from core.launch.drafts import Draft, create_draft, find_draft
from core.launch.plan import LaunchPlan
from core.recipe import MINIMUM_ROWS, Value

TRY_S = 600.0
_MOST_TEST_ROWS = 20


def size_part(plan: LaunchPlan) -> tuple[int, dict[str, Value]]:
    """Return how many rows of the data a part takes, and the settings that differ from the whole run's."""
    if plan.estimate is None:
        raise BadInput("How long the run takes is not known, so no part of it can be measured out.", "Start the whole.")
    share = TRY_S / max(TRY_S, (plan.estimate.low_s + plan.estimate.high_s) / 2)
    steps = plan.recipe.whole("max_steps")
    if steps > 0:
        return plan.dataset.rows, {"max_steps": max(1, int(steps * share))}
    epochs = plan.recipe.whole("num_train_epochs") * share
    if epochs >= 1:
        return plan.dataset.rows, {"num_train_epochs": int(epochs)}
    return min(plan.dataset.rows, max(2 * MINIMUM_ROWS, int(plan.dataset.rows * epochs))), {"num_train_epochs": 1}


def try_part(plan: LaunchPlan) -> Draft:
    """Make a set-up of a part of a plan's rows and steps, from which the way leads on to the whole."""
    rows, settings = size_part(plan)
    whole = plan.draft
    data = plan.dataset if rows >= plan.dataset.rows else take_part(plan.dataset, rows, _MOST_TEST_ROWS)
    return create_draft(
        whole.connection,
        model=whole.model,
        model_version=whole.model_version,
        retired_model=whole.retired_model,
        compute=whole.compute,
        dataset=data.key,
        parameters={**whole.parameters, **settings},
        whole=whole.id,
    )


def find_whole(draft_id: str) -> Draft | None:
    """Return the set-up that a draft is a part of, None where it is none, or the whole is gone."""
    draft = find_draft(draft_id) if draft_id else None
    return find_draft(draft.whole) if draft is not None and draft.whole else None
