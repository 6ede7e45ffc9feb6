"""The events that an operator can be told of, in one table. What failed and what costs is told unless taken out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One kind of news. words: as it stands in the settings; default: whether it is told of unless somebody chose."""

    name: str
    words: str
    default: bool = False


EVENTS = {
    event.name: event
    for event in (
        Event("run_completed", "A run completed"),
        Event("run_failed", "A run failed", default=True),
        Event("run_cancelled", "A run was cancelled by somebody else"),
        Event("deployment_live", "A deployment is live"),
        Event("deployment_failed", "A deployment failed", default=True),
        Event("deleted_soon", "Something is deleted within the hour", default=True),
        Event("deleted", "Something was deleted because its time was over", default=True),
        Event("idle_ended", "Something idle was ended", default=True),
        Event("cap_reached", "A cap is reached", default=True),
        Event("no_end", "Something bills for an hour and has no end", default=True),
        Event("deletion_failed", "A deletion failed, so it may bill on", default=True),
        Event("sweep_failed", "A workspace cannot be asked what is due", default=True),
    )
}
TEST = Event("test", "A test")


@dataclass(frozen=True)
class Alert:
    """One piece of news about one thing of a workspace."""

    connection: str
    event: str
    thing: str
    """The run, group, endpoint, compute or workspace that it is about."""
    text: str
    """A sentence or two; names and what a service said stand in it as they are."""
    key: str = ""
    """What makes it new: the same key is told of once, whoever notes it and how often. By default event and thing."""

    @property
    def full_key(self) -> str:
        """The key within a home."""
        return f"{self.connection}/{self.event}/{self.key or self.thing}"
