"""The command line of the local workspace, its server, its home, its base models, and scripts that use it.

python -m core.local serve [--foreground]   serve this home until Ctrl-C
python -m core.local start                  the same, detached; returns when it answers
python -m core.local stop                   end everything this home started: server, trainers, scorers
python -m core.local status                 say what runs
python -m core.local usage                  say what this home takes on the disk, and what of it can go
python -m core.local prune                  delete what can go: checkpoints and weights in folders of runs that are over
python -m core.local fetch-model            put the base model there, once
python -m core.local add-model WHAT         add a base model: owner/name on the Hugging Face hub, or a folder
python -m core.local remove-model NAME N    delete version N of a base model that was added
python -m core.local exec -- python x.py    run an azure-ai-ml or mlflow script against this home, unchanged
python -m core.local connect [--print]      say how scripts and notebooks connect; --print: the lines to paste into one
python -m core.local fault add KIND …       let the next answers, or the next work, fail as on Azure; also list, clear
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from core import home as homes
from core.errors import TunedeckError
from core.home import Home


def serve(home: Home, options: argparse.Namespace) -> int:
    """Serve this home; a home that is served already is left to its server."""
    from core.local import serving  # the web server is imported only by the one command that needs it

    return serving.serve(home, foreground=options.foreground, profile=options.profile)


def start(home: Home, _options: argparse.Namespace) -> int:
    """Start the server detached, and wait until it answers."""
    from core.local import control

    print(control.start(home))
    return 0


def stop(home: Home, _options: argparse.Namespace) -> int:
    """End the server, the trainers and the scorers of this home."""
    from core.local import control

    ended = control.stop(home)
    print("\n".join(ended) if ended else "Nothing of this home was running.")
    return 0


def status(home: Home, _options: argparse.Namespace) -> int:
    """Say what of this home runs; exit status 3 where the server does not."""
    from core.local import control

    lines, is_up = control.read_status(home)
    print("\n".join(lines))
    return 0 if is_up else 3


def execute(home: Home, options: argparse.Namespace) -> int:
    """Run a script that uses azure-ai-ml or mlflow against this home, unchanged; its exit status is returned."""
    from core.local import foreign

    words = options.program[1:] if options.program[:1] == ["--"] else options.program
    return foreign.run(home, words)


def connect(home: Home, options: argparse.Namespace) -> int:
    """Start the server where none runs, and say how a script or a notebook connects to it."""
    from core.local import control, foreign

    started = control.start(home)
    foreign.check_listener(home)
    lines = foreign.write_script(home)
    if options.print:
        print(lines, end="")
    else:
        print(f"{started}\nFor scripts: {home.tls_url()}, certificates by the CA in {home.path / 'tls' / 'ca.pem'}.")
        print("A script as it is:  python -m core.local exec -- python script.py")
        print("A notebook's first cell:  python -m core.local connect --print")
    return 0


def usage(home: Home, _options: argparse.Namespace) -> int:
    """Say what this home takes on the disk, and what of it can go."""
    from core.local import usage as uses

    found = uses.read_usage(home)
    for use in found:
        print(f"{uses.size_words(use.size_bytes):>10}  {use.title} ({use.files:,} files)")
    print(f"{uses.size_words(sum(use.size_bytes for use in found)):>10}  in all, in {home.path}")
    spare = sum(each.size_bytes for each in uses.find_leftovers(home))
    print(f"{uses.size_words(spare):>10}  of it can go: python -m core.local prune")
    return 0


def prune(home: Home, _options: argparse.Namespace) -> int:
    """Delete checkpoints and weights in the folders of runs that are over; outputs, models, data and logs stay."""
    from core.local import usage as uses

    gone = uses.prune(home)
    for each in gone:
        print(f"Deleted {each.why}: {uses.size_words(each.size_bytes)}.")
    print(f"{uses.size_words(sum(each.size_bytes for each in gone))} freed." if gone else "Nothing can go.")
    return 0


def fetch_model(_home: Home, _options: argparse.Namespace) -> int:
    """Fetch and restore the base model where it is missing, and write its tags anew where it is there."""
    from core.local import base_model

    return base_model.main([])


def add_model(home: Home, options: argparse.Namespace) -> int:
    """Add a base model to the registry: owner/name on the Hugging Face hub (token in HF_TOKEN), or a folder."""
    from core.local import add_model as program
    from core.local.model_source import open_source

    if not options.look:
        print(program.run(home, options.source, options.revision, options.work))
        return 0
    look = program.look_at(home, open_source(options.source, options.revision))
    lines = "\n".join(f"{each.name}: {each.said}" for each in look.lines)
    print(json.dumps(asdict(look)) if options.json else lines)
    return 0


def remove_model(home: Home, options: argparse.Namespace) -> int:
    """Delete a base model that was added; runs and endpoints of it stay."""
    from core.local import add_model as program

    program.remove(home, options.name, options.version)
    print("{}" if options.json else f"Deleted {options.name} {options.version}.")
    return 0


def fault(home: Home, options: argparse.Namespace) -> int:
    """Let the next answers to a route, or the next jobs and deployments, fail as they may fail on Azure."""
    from core.local.faults import Faults

    faults = Faults(home)
    if options.action == "add":
        print(f"On: {faults.add(options.kind, options.route, options.times, options.seconds).words}.")
    elif options.action == "list":
        print("\n".join(f"On: {fault.words}." for fault in faults.active()) or "No fault is on.")
    else:
        print("\n".join(f"Off: {fault.words}." for fault in faults.clear()) or "No fault was on.")
    return 0


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    from core.local.faults import KINDS

    actions = parser.add_subparsers(dest="action", required=True)
    kinds = "\n".join(f"  {name:16} {kind.words}" for name, kind in KINDS.items())
    layout = argparse.RawDescriptionHelpFormatter
    added = actions.add_parser("add", help="switch a fault on", description=f"Faults:\n{kinds}", formatter_class=layout)
    added.add_argument("kind", choices=list(KINDS))
    route = 'a path below the workspace, with * for anything: "computes/*", "GET jobs/*"; all where it is not given'
    added.add_argument("--route", default="*", help=route)
    added.add_argument("--times", type=int, default=1, help="how often it happens (1)")
    added.add_argument("--seconds", type=float, help="how long: of slow, throttle and out-of-capacity")
    actions.add_parser("list", help="say which faults are on")
    actions.add_parser("clear", help="switch all faults off")


def _add_model_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    if name == "add-model":
        parser.add_argument("source", help="owner/name, or the path of a folder")
        parser.add_argument("--revision", default="", help="a branch, a tag or a commit of the hub")
        parser.add_argument("--look", action="store_true", help="only say whether it can be added")
        parser.add_argument("--work", type=Path, help="the folder of this addition, with its state.json")
    elif name == "remove-model":
        parser.add_argument("name")
        parser.add_argument("version")


COMMANDS: dict[str, Callable[[Home, argparse.Namespace], int]] = {
    "serve": serve,
    "start": start,
    "stop": stop,
    "status": status,
    "usage": usage,
    "prune": prune,
    "fetch-model": fetch_model,
    "add-model": add_model,
    "remove-model": remove_model,
    "exec": execute,
    "connect": connect,
    "fault": fault,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command on the home of this process."""
    parser = argparse.ArgumentParser(prog="python -m core.local", description="The local workspace of Tunedeck.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        if name == "serve":
            added.add_argument("--foreground", action="store_true", help="write the log to the terminal as well")
            added.add_argument(
                "--profile",
                choices=("local", "azure"),
                default=os.environ.get("TUNEDECK_PROFILE", "local"),
                help="azure: sizes, quota, registry and slowness of a region, for tests; wants a home of its own",
            )
        elif name == "exec":
            added.add_argument("program", nargs=argparse.REMAINDER, help="-- and the command")
        elif name == "connect":
            added.add_argument("--print", action="store_true", help="print the ten lines alone")
        elif name == "fault":
            _add_fault_options(added)
        elif name.endswith("-model"):
            _add_model_options(added, name)
    options = parser.parse_args(arguments)
    try:
        return COMMANDS[options.command](homes.current(), options)
    except TunedeckError as error:
        if getattr(options, "json", False):
            print(json.dumps({"kind": type(error).__name__, **vars(error)}))
        print("\n".join(filter(None, (error.message, error.hint, error.detail))), file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
