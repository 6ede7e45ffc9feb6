"""A group of runs: every combination of the values of one or two settings, checked, timed and priced together."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.catalog.prices import CostRange, add_costs
from core.errors import BadInput
from core.launch.drafts import Draft
from core.launch.plan import Check, LaunchPlan, range_words
from core.launch.preflight import LaunchFacts, make_plan
from core.launch.request import digest
from core.recipe import BY_NAME, Value, parse_value
from core.runs.titles import LONGEST_TITLE, new_run_name, new_title

MOST_RUNS = 20


@dataclass(frozen=True)
class GroupPlan:
    """What a start would send: one plan for each combination, in the order of the values."""

    plans: tuple[LaunchPlan, ...]
    values: tuple[Mapping[str, Value], ...]
    """Of each plan, those that are tried, by the setting's name."""
    at_once: int
    """How many of them the compute has nodes for."""

    @property
    def name(self) -> str:
        """The group's name: the same draft with the same values has the same, and no other has."""
        seed = hashlib.sha256("".join(map(digest, self.plans)).encode()).hexdigest()
        return new_run_name(new_title(seed), seed)

    @property
    def titles(self) -> tuple[str, ...]:
        """What each run is called: the draft's name, or the group's two words, and its values."""
        first = self.plans[0].draft.title or self.name.rpartition("-")[0]
        said = [" ".join(map(str, each.values())) for each in self.values]
        return tuple(f"{first[: LONGEST_TITLE - len(each) - 1]} {each}" for each in said)

    @property
    def cost(self) -> CostRange:
        """What all of them cost."""
        return add_costs([plan.estimate.cost if plan.estimate else CostRange(None, None) for plan in self.plans])

    @property
    def nodes(self) -> int:
        """How many bill while as many of them run as can."""
        return self.at_once * max(plan.recipe.whole("num_nodes_finetune") for plan in self.plans)

    @property
    def time_words(self) -> str:
        """How long it takes until the last has ended; "time unknown" where one of them cannot be told."""
        told = [plan.estimate for plan in self.plans if plan.estimate]
        if len(told) < len(self.plans):
            return "time unknown"
        low, high = sum(each.low_s for each in told), sum(each.high_s for each in told)
        if self.at_once == 1:
            return range_words(low, high)
        # the longest is not shortened by what runs beside it (Graham's bounds of list scheduling)
        longest = max(each.low_s for each in told), max(each.high_s for each in told)
        return range_words(max(low / self.at_once, longest[0]), high / self.at_once + longest[1])

    @property
    def checks(self) -> tuple[tuple[Check, int], ...]:
        """What an operator must look at, failures first, each with how many of the runs have it."""
        counts = Counter(replace(check, fix=None) for plan in self.plans for check in (*plan.failures, *plan.warnings))
        return tuple(sorted(counts.items(), key=lambda pair: pair[0].state != "failed"))

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks that keep all of them from being started."""
        return tuple(check for check, _ in self.checks if check.state == "failed")


def parse_values(name: str, text: str) -> tuple[Value, ...]:
    """Return the values of a list such as "1e-4, 5e-4"; raises BadInput for one that the setting does not take."""
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    return tuple(dict.fromkeys(parse_value(BY_NAME[name], part) for part in parts))


def plan_group(facts: LaunchFacts, draft: Draft, tried: Mapping[str, Sequence[Value]]) -> GroupPlan:
    """Check every combination as a single run is checked. tried: by the setting's name; one or two of them.

    Raises BadInput for fewer than two runs, or more than MOST_RUNS.
    """
    combinations = [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]
    if not 2 <= len(combinations) <= MOST_RUNS:
        raise BadInput(
            f"These values make {len(combinations)} run{'s' if len(combinations) != 1 else ''}.",
            f"Give values for 2 to {MOST_RUNS} runs.",
        )
    plans = [make_plan(facts, replace(draft, parameters={**draft.parameters, **values})) for values in combinations]
    nodes = max(plan.recipe.whole("num_nodes_finetune") for plan in plans)
    at_once = 1 if facts.here else max(1, facts.compute.max_nodes // nodes)
    return GroupPlan(tuple(plans), tuple(combinations), min(at_once, len(plans)))
