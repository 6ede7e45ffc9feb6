"""One check of access to a workspace: its lines as they become known."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from core.azureml import access
from core.azureml.access import AccessLine
from core.azureml.identities import AzureCredential
from core.azureml.settings import Settings
from pages.parts.kit import reads


@dataclass
class AccessCheck:
    """Filled by a thread of its own; pages only look."""

    settings: Settings
    lines: list[AccessLine] = field(default_factory=list)

    def run(self, credential: AzureCredential | None) -> bool:
        """Check every line; True: the workspace can be used, if only for a part of the way."""
        self.lines = list(access.check_access(self.settings, credential=credential, on_line=self.lines.append))
        return access.can_be_used(self.lines)


_checks: dict[str, AccessCheck] = {}
_lock = threading.Lock()


def start(settings: Settings, credential: AzureCredential | None = None) -> None:
    """Begin to check, by a credential or by whom this machine has."""
    check = AccessCheck(settings)
    with _lock:
        _checks[settings.alias] = check
    reads.end_work("access", settings.alias)
    reads.run_once("access", settings.alias, lambda: check.run(credential))


def find(alias: str) -> AccessCheck | None:
    """Return the check of this alias that was begun last in this process."""
    with _lock:
        return _checks.get(alias)
