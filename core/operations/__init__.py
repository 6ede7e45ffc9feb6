"""Operations: every change of a workspace is recorded before it is sent, carried out step by step, and resumed.

    ledger.py    what was wanted and how far it is (SQLite), the lease, receipts
    runner.py    who carries it out: a thread of the dashboard, or `python -m core.operations run`
    turns.py     whose turn it is where two are about the same thing
    launch.py deploy.py remove.py manage.py    the steps of each kind
    everything.py    what exists and what is being made
    start.py     how pages begin one

A page calls one `start_…` function and draws `find_operation(id)` until it is finished.
"""

from core.operations.everything import list_everything
from core.operations.ledger import (
    Operation,
    Step,
    find_operation,
    find_operation_for,
    get_operation,
    list_operations,
    list_receipts,
)
from core.operations.runner import start_runner
from core.operations.start import (
    retry_operation,
    start_cancel,
    start_create_compute,
    start_deploy,
    start_launch,
    start_set_delete_at,
    start_set_traffic,
    start_teardown,
)

__all__ = [
    "Operation",
    "Step",
    "find_operation",
    "find_operation_for",
    "get_operation",
    "list_everything",
    "list_operations",
    "list_receipts",
    "retry_operation",
    "start_cancel",
    "start_create_compute",
    "start_deploy",
    "start_launch",
    "start_runner",
    "start_set_delete_at",
    "start_set_traffic",
    "start_teardown",
]
