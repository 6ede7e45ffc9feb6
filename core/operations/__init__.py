"""Operations: every change of a workspace is recorded before it is sent, carried out step by step, and resumed.

    change.py    what every kind of operation has: arguments, title, key, steps
    launch.py cancel.py keep_best.py labels.py deploy.py traffic.py delete_at.py set_cap.py create_compute.py
    teardown.py add_model.py
        one kind each
    continuation.py    a launch that goes on from a checkpoint
    ledger.py    what was wanted and how far it is (SQLite), the lease, receipts
    runner.py    who carries it out: a thread of the dashboard, or `python -m core.operations run`
    idle.py      ends what had nothing to do, by a click or where that was chosen
    sweep.py     deletes what is due (due_deletion.py), wherever it was made; sweep_command.py once, for cron
    at_cap.py    ends what came to its cap; spending.py holds what is about to bill against the workspace's
    panic.py     deletes everything that one identity made; panic_command.py without a dashboard
    turns.py     whose turn it is where two are about the same thing
    everything.py    what exists and what is being made
    starts.py    when a machine of each size last came

A page calls one `start_…` function and draws `find_operation(id)` until it is finished.
"""

from core.operations.add_model import start_add_model, start_remove_model
from core.operations.cancel import start_cancel, start_cancel_all
from core.operations.continuation import explain_no_continuation, find_last, start_continuation
from core.operations.create_compute import start_create_compute
from core.operations.delete_at import start_set_delete_at
from core.operations.deploy import Deploy, start_deploy, start_redeploy
from core.operations.everything import list_everything
from core.operations.idle import start_scale_to_zero, start_set_idle
from core.operations.keep_best import start_keep_best
from core.operations.labels import start_labels, start_rename, start_undo
from core.operations.launch import Launch, copy_setup, find_launch, list_group, start_group, start_launch, was_sent
from core.operations.ledger import (
    Ledger,
    find_operation,
    find_operation_for,
    get_operation,
    list_operations,
    list_receipts,
    retry_operation,
)
from core.operations.panic import plan_panic, start_panic
from core.operations.records import Operation, OperationState, Step, StepState
from core.operations.runner import start_runner
from core.operations.set_cap import start_set_cap, start_set_limits
from core.operations.starts import list_starts
from core.operations.teardown import start_teardown
from core.operations.traffic import start_set_traffic

__all__ = [
    "Deploy",
    "Launch",
    "Ledger",
    "Operation",
    "OperationState",
    "Step",
    "StepState",
    "copy_setup",
    "explain_no_continuation",
    "find_last",
    "find_launch",
    "find_operation",
    "find_operation_for",
    "get_operation",
    "list_everything",
    "list_group",
    "list_operations",
    "list_receipts",
    "list_starts",
    "plan_panic",
    "retry_operation",
    "start_add_model",
    "start_cancel",
    "start_cancel_all",
    "start_continuation",
    "start_create_compute",
    "start_deploy",
    "start_group",
    "start_keep_best",
    "start_labels",
    "start_launch",
    "start_panic",
    "start_redeploy",
    "start_remove_model",
    "start_rename",
    "start_runner",
    "start_scale_to_zero",
    "start_set_cap",
    "start_set_delete_at",
    "start_set_idle",
    "start_set_limits",
    "start_set_traffic",
    "start_teardown",
    "start_undo",
    "was_sent",
]
