"""How requests are split between the deployments of an endpoint: live shares and a mirrored one."""

from __future__ import annotations

import random
from typing import Any

from core.local.endpoints.resources import Deployment, Endpoint
from core.local.wire.answers import is_named
from core.local.wire.errors import WireError
from core.local.workspace import Workspace

LARGEST_MIRROR = 50  # percent, as on the service: a mirror doubles the work


def read_traffic(workspace: Workspace, endpoint: str, asked: dict[str, Any]) -> dict[str, int]:
    """Return the live shares in percent; raises 400 for what does not add up or names no deployment."""
    shares = _read_shares(workspace, endpoint, "traffic", asked)
    if sum(shares.values()) not in (0, 100):
        raise WireError(400, "BadRequest", f"The traffic must add up to 0 or 100, not {sum(shares.values())}.")
    return shares


def read_mirror(workspace: Workspace, endpoint: str, asked: dict[str, Any], live: dict[str, int]) -> dict[str, int]:
    """Return the mirrored share: of one deployment that gets no live traffic, at most half; raises 400 otherwise."""
    shares = _read_shares(workspace, endpoint, "mirror traffic", asked)
    mirrored = {name: share for name, share in shares.items() if share}
    if len(mirrored) > 1:
        raise WireError(400, "BadRequest", f"Traffic can be mirrored to one deployment, not to {len(mirrored)}.")
    for name, share in mirrored.items():
        if share > LARGEST_MIRROR:
            raise WireError(400, "BadRequest", f"At most {LARGEST_MIRROR} % of the traffic can be mirrored.")
        if live.get(name):
            raise WireError(400, "BadRequest", f"'{name}' gets live traffic; nothing can be mirrored to it as well.")
        if not any(live.values()):
            raise WireError(400, "BadRequest", f"'{endpoint}' has no live traffic that could be mirrored.")
    return shares


def choose(endpoint: Endpoint) -> str | None:
    """Return the deployment that the next request goes to, drawn by the live shares; None where there is no traffic."""
    return _draw(endpoint.traffic)


def choose_mirror(endpoint: Endpoint) -> str | None:
    """Return the deployment that the next request is copied to, or None: drawn by the mirrored share."""
    return _draw(endpoint.mirror)


def _draw(shares: dict[str, int]) -> str | None:
    rest = 100 - sum(shares.values())
    return random.choices([*shares, None], [*shares.values(), rest])[0]


def _read_shares(workspace: Workspace, endpoint: str, what: str, asked: dict[str, Any]) -> dict[str, int]:
    read: dict[str, int] = {}
    for name, share in asked.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
            raise WireError(400, "BadRequest", f"The {what} of '{name}' must be a whole number from 0 to 100.")
        deployment = Deployment.find(workspace.store, f"{endpoint}/{name}")
        if share and (deployment is None or deployment.state.deleting):
            raise WireError(400, "BadRequest", f"The {what} names '{name}', which '{endpoint}' does not have.")
        own = deployment.name if deployment else name
        if any(is_named(own, each) for each in read):
            raise WireError(400, "BadRequest", f"The {what} names '{own}' twice.")
        read[own] = share
    return read
