"""What jobs and deployments work with: the files, records, machine, models and faults of one home."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.home import Home
from core.local.blobs import BlobStore
from core.local.faults import Faults
from core.local.jobs.runs import Runs
from core.local.machine import Machine
from core.local.model_registry import ModelRegistry
from core.local.profile import Profile
from core.local.store import Store


@dataclass(kw_only=True)
class Backend:
    """The parts of a home being served that need no request."""

    home: Home
    store: Store
    machine: Machine
    registry: ModelRegistry
    profile: Profile = field(default_factory=Profile)
    runs: Runs = field(init=False, repr=False)
    blobs: BlobStore = field(init=False, repr=False)
    faults: Faults = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.runs = Runs(self.store, self.home.runs)
        self.blobs = BlobStore(self.home.blobs, self.store, self.runs)
        self.faults = Faults(self.home)
