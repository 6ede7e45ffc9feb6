"""`python -m core.operations run`: carry operations out without a dashboard; `list` shows them."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from core.operations.ledger import list_operations
from core.operations.runner import run_forever


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m core.operations", description=__doc__)
    parser.add_argument("command", choices=("run", "list"))
    command = parser.parse_args().command
    if command == "list":
        for operation in list_operations():
            print(f"{operation.created_at:%d %b %H:%M} UTC  {operation.outcome:<12} {operation.title}")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("Carrying out the operations of this home; Ctrl-C ends it.", flush=True)
    run_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
