"""Lets nothing that runs by itself undo a click on a link. The only place that changes Streamlit (decision 0006)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from weakref import WeakKeyDictionary

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests, ScriptRequestType


@dataclass(frozen=True)
class _Asked:
    """The page that a browser asked for last, and the one that the session drew at that time."""

    page: str
    instead_of: str


_asked: WeakKeyDictionary[AppSession, _Asked] = WeakKeyDictionary()


def let_clicks_win() -> None:
    """Have Streamlit drop what would draw again a page that its operator has just left. Once a process.

    A browser's timers run until it hears of the new page, and each asks for the page it is on; a fragment may ask for a
    whole run while a click waits. Streamlit 1.67 draws the page of the latest request: the click is lost.
    """
    accept, fold = AppSession.request_rerun, ScriptRequests._request_rerun_locked
    if hasattr(accept, "__wrapped__"):
        return

    @wraps(accept)
    def accept_unless_late(self: AppSession, client_state: ClientState | None) -> None:
        if client_state is not None and client_state.is_auto_rerun:
            if client_state.page_script_hash not in {"", current_page(self)}:
                return
        elif client_state is not None and not client_state.fragment_id:
            _asked[self] = _Asked(client_state.page_script_hash, self.page_script_hash)
        accept(self, client_state)

    @wraps(fold)
    def fold_unless_by_itself(self: ScriptRequests, new_data: RerunData) -> bool:
        waits = self._rerun_data if self._state is ScriptRequestType.RERUN else RerunData()
        by_click = waits.page_script_hash not in {"", new_data.page_script_hash} and not waits.fragment_id_queue
        if by_click and get_script_run_ctx(suppress_warning=True):
            return True  # asked by a script, not by a browser: the request that waits is taken up next
        return fold(self, new_data)

    AppSession.request_rerun = accept_unless_late  # type: ignore[method-assign]
    ScriptRequests._request_rerun_locked = fold_unless_by_itself  # type: ignore[method-assign]


def current_page(session: AppSession) -> str:
    """Return the hash of the page that was asked for, until a page has begun since; then of that one."""
    asked = _asked.get(session)
    if asked and asked.page and asked.instead_of == session.page_script_hash:
        return asked.page
    return session.page_script_hash
