"""The matrix of sizes: what a model may run on, what it costs, whether the quota suffices. Begins nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.catalog.allow_list import AllowList
from core.catalog.compute import Size, check_size
from core.catalog.prices import Price
from core.catalog.quota import Claim, Quota, claim_deployment, claim_nodes


@dataclass(frozen=True)
class Offer:
    """One row: a size, what of it is wanted, and what speaks against it. price: of one node or instance."""

    size: Size
    price: Price
    claim: Claim
    refusal: str = ""
    """Why the model or Azure does not allow it, a sentence; "" where they do."""

    @property
    def why_not(self) -> str:
        """Return a sentence, "" where nothing known speaks against it."""
        return self.refusal or (f"Quota for {self.claim.words}" if self.claim.fits is False else "")

    @property
    def usable(self) -> str:
        """Return why not in a word or two: "yes", "not allowed", "no quota", "quota unknown"."""
        if self.refusal:
            return "not allowed"
        return {True: "yes", False: "no quota", None: "quota unknown"}[self.claim.fits]


def list_offers(
    sizes: Sequence[Size],
    allow_list: AllowList,
    quotas: Sequence[Quota],
    model: str,
    *,
    nodes: int = 1,
    low_priority: bool = False,
) -> list[Offer]:
    """Return the sizes for a cluster that trains, the cheapest that has quota first.

    sizes: as `with_prices` gives them; of those that the model does not allow, the ones with a GPU are told.
    """
    offers = []
    for size in sizes:
        refusal = check_size(size.name, allow_list, model, size=size)
        if not size.supports_training or (refusal and not size.gpus):
            continue
        if low_priority and not size.low_priority:
            refusal = refusal or f"Size {size.name} is not to be had at low priority."
        claim = claim_nodes(quotas, size, nodes, low_priority=low_priority)
        offers.append(Offer(size, size.price_at(low_priority=low_priority), claim, refusal or ""))
    return sorted(offers, key=_best_first)


def list_serving_offers(
    sizes: Sequence[Size], allow_list: AllowList, quotas: Sequence[Quota], *, billed: bool = True
) -> list[Offer]:
    """Return the sizes that may serve a model, the cheapest that has quota first. billed: whether it is Azure's."""
    offers = [
        Offer(size, size.price, claim_deployment(quotas, size, reserved=billed))
        for size in sizes
        if size.supports_online and check_size(size.name, allow_list, "", "serve", size) is None
    ]
    return sorted(offers, key=_best_first)


def list_absent(sizes: Sequence[Size], allow_list: AllowList) -> list[str]:
    """Return the sizes that a model allows and the region does not list."""
    here = {size.name.lower() for size in sizes}
    return [name for name in allow_list.sizes or () if name.lower() not in here]


def suggest_offer(offers: Sequence[Offer]) -> Offer:
    """Return what to begin with: the first, but where all that fit cost nothing the largest. At least one is given."""
    fitting = [offer for offer in offers if not offer.why_not] or offers
    free = all(offer.price.is_free for offer in fitting)
    return max(fitting, key=lambda offer: offer.size.cores) if free else fitting[0]


def _best_first(offer: Offer) -> tuple[bool, int, bool, float, str]:
    known = offer.price.per_hour
    quota = {True: 0, None: 1, False: 2}[offer.claim.fits]
    return bool(offer.refusal), quota, known is None, known or 0.0, offer.size.name
