"""One check of access to a workspace: its lines as they become known, and the code to type where one is needed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from core.azureml import access
from core.azureml.access import AccessLine
from core.azureml.identities import DeviceCode, SignIn
from core.azureml.settings import Settings
from core.azureml.sign_in_rules import refuses_device_code
from pages.parts.kit import reads


@dataclass
class AccessCheck:
    """Filled by a thread of its own; pages only look."""

    settings: Settings
    lines: list[AccessLine] = field(default_factory=list)
    code: DeviceCode | None = None
    code_refused: bool = False
    """Whether the company's policy refuses device codes to this operator."""

    def run(self, method: str) -> bool:
        """Check every line; True: the workspace can be used, if only for a part of the way."""
        sign_in = SignIn(method, self._keep_code) if method else None  # type: ignore[arg-type]
        self.lines = list(access.check_access(self.settings, sign_in=sign_in, on_line=self.lines.append))
        if method == "device_code":
            self.code_refused = any(refuses_device_code(line.service) for line in self.lines)
        return access.can_be_used(self.lines)

    def _keep_code(self, code: DeviceCode) -> None:
        self.code = code


_checks: dict[str, AccessCheck] = {}
_lock = threading.Lock()


def start(settings: Settings, method: str = "") -> None:
    """Begin to check; method: "" (credentials of this machine), "browser" or "device_code"."""
    check = AccessCheck(settings)
    with _lock:
        before = _checks.get(settings.alias)
        check.code_refused = before is not None and before.code_refused
        _checks[settings.alias] = check
    reads.end_work("access", settings.alias)
    reads.run_once("access", settings.alias, lambda: check.run(method))


def find(alias: str) -> AccessCheck | None:
    """Return the check of this alias that was begun last in this process."""
    with _lock:
        return _checks.get(alias)
