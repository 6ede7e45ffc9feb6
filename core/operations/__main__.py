"""`python -m core.operations`: carry operations out without a dashboard, show them, delete what is due, verify."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from core import home
from core.alerts.book import AlertBook
from core.alerts.delivery import deliver_all
from core.azureml.connection import connect
from core.azureml.settings import Settings, find_settings, list_settings, make_settings
from core.errors import NotFound, TunedeckError
from core.operations.ledger import Ledger, list_operations
from core.operations.news import tell_no_sweep
from core.operations.panic_command import panic
from core.operations.runner import run_forever
from core.operations.sweep_command import list_due, sweep_once
from core.operations.verify_command import find_place, read_file, verify
from core.words import visible

FAILED = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m core.operations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="carry out the operations of this home until Ctrl-C")
    commands.add_parser("list", help="show the operations of this home")
    sweeping = commands.add_parser("sweep", help="delete every endpoint and compute whose delete-at is over")
    sweeping.add_argument("--once", action="store_true", required=True, help="one look at each workspace, then end")
    sweeping.add_argument("--dry-run", action="store_true", help="say what is due, and change nothing")
    sweeping.add_argument("--strict", action="store_true", help="keep no endpoint that answered in the last 15 min")
    sweeping.add_argument("--at", help="one workspace of this home by its name; without it each that is known here")
    sweeping.add_argument("--workspace", metavar="SUBSCRIPTION/GROUP/NAME", help="one that need not be known here")
    verifying = commands.add_parser("verify", help="hold a file of Tunedeck against the workspace of today")
    verifying.add_argument("file", type=Path, metavar="FILE.json", help="a lineage or a receipt, as it was downloaded")
    verifying.add_argument("--at", help="the workspace by its name in this home, where the file's own is not meant")
    panicking = commands.add_parser("panic", help="delete everything that bills and that you made through Tunedeck")
    panicking.add_argument("--at", help="the workspace by its name in this home, where it knows several")
    panicking.add_argument("--workspace", metavar="SUBSCRIPTION/GROUP/NAME", help="one that need not be known here")
    panicking.add_argument("--everyone", action="store_true", help="what others made, too")
    panicking.add_argument("--assets", action="store_true", help="models (archived) and data, too")
    panicking.add_argument("--yes", metavar="NAME", help="the workspace's name; without it the plan is printed only")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    if options.command == "run":
        return _run()
    if options.command == "verify":
        return _verify(options.file, options.at)
    if options.command == "panic":
        return _panic(parser, options)
    return _list() if options.command == "list" else _sweep(parser, options)


def _run() -> int:
    logging.getLogger("core").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("Carrying out the operations of this home; Ctrl-C ends it.", flush=True)
    run_forever()
    return 0


def _list() -> int:
    for operation in list_operations():
        print(f"{operation.created_at:%d %b %H:%M} UTC  {operation.outcome:<12} {operation.title}")
    return 0


def _sweep(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Print one line for each resource with a delete-at; FAILED where one could not be read or deleted."""
    ledger, status = Ledger(), 0
    for settings in _choose(parser, options):
        problems: list[TunedeckError] = []
        try:
            conn = connect(settings, home=home.current())
            dry = options.dry_run
            for line in list_due(conn, problems) if dry else sweep_once(ledger, conn, problems, strict=options.strict):
                print(line.words, flush=True)
                status = FAILED if line.failed else status
        except TunedeckError as error:
            problems.append(error)
            if not options.dry_run:
                AlertBook().note(tell_no_sweep(settings.alias, f"{datetime.now(UTC):%Y-%m-%d}", error.message))
        for problem in problems:
            print(f"{settings.workspace_name}: {problem.message} {problem.hint}", file=sys.stderr)
            status = FAILED
    if not options.dry_run:
        deliver_all()
    return status


def _verify(path: Path, at: str | None) -> int:
    """Print one line for each claim of a file; FAILED where one does not hold, or the file cannot be verified."""
    status = 0
    try:
        document = read_file(path)
        settings = find_settings(at) if at else find_place(document)
        if settings is None:
            raise NotFound(f"This home knows no workspace '{at}'.", "Connect to it first.")
        for claim in verify(connect(settings, home=home.current()), document):
            print(visible(f"{claim.what}  {claim.outcome}").replace("\n", " "), flush=True)
            status = status if claim.holds else FAILED
    except TunedeckError as error:
        print(f"{visible(error.message)} {visible(error.hint)}", file=sys.stderr)
        return FAILED
    return status


def _panic(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        places = _choose(parser, options)
    except (TunedeckError, OSError) as error:
        parser.error(f"This home cannot be read: {error} Name the workspace with --workspace.")
    if len(places) != 1:
        known = f"This home knows {', '.join(each.alias for each in places) or 'none'}."
        parser.error(f"Name one workspace with --at or --workspace. {known}")
    try:
        return panic(places[0], options.yes, everyone=options.everyone, assets=options.assets)
    except TunedeckError as error:
        print(f"{visible(error.message)} {visible(error.hint)}", file=sys.stderr)
        return FAILED


def _choose(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Settings]:
    if options.workspace:
        parts = options.workspace.split("/")
        if len(parts) != 3:
            parser.error("--workspace has the form SUBSCRIPTION/GROUP/NAME.")
        try:
            return [make_settings(*parts)]
        except TunedeckError as error:
            parser.error(f"{error.message} {error.hint}")
    if options.at is None:
        return list_settings()
    known = find_settings(options.at)
    return [known] if known else parser.error(f"This home knows no workspace '{options.at}'.")


if __name__ == "__main__":
    sys.exit(main())
