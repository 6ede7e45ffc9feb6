"""The command line of the local workspace: serve, start, stop, status, fetch-model.

python -m core.local serve [--foreground]   serve this home until Ctrl-C
python -m core.local start                  the same, detached; returns when it answers
python -m core.local stop                   end everything this home started: server, trainers, scorers
python -m core.local status                 say what runs
python -m core.local fetch-model            put the base model there, once
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from core import home as homes
from core.errors import TunedeckError
from core.home import Home


def serve(home: Home, options: argparse.Namespace) -> int:
    """Serve this home; a home that is served already is left to its server."""
    from core.local import serving  # the web server is imported only by the one command that needs it

    return serving.serve(home, foreground=options.foreground)


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


def fetch_model(_home: Home, _options: argparse.Namespace) -> int:
    """Fetch and restore the base model where it is missing, and write its tags anew where it is there."""
    from core.local import base_model

    return base_model.main([])


COMMANDS: dict[str, Callable[[Home, argparse.Namespace], int]] = {
    "serve": serve,
    "start": start,
    "stop": stop,
    "status": status,
    "fetch-model": fetch_model,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command on the home of this process."""
    parser = argparse.ArgumentParser(prog="python -m core.local", description="The local workspace of Tunedeck.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        if name == "serve":
            added.add_argument("--foreground", action="store_true", help="write the log to the terminal as well")
    options = parser.parse_args(arguments)
    try:
        return COMMANDS[options.command](homes.current(), options)
    except TunedeckError as error:
        print("\n".join(filter(None, (error.message, error.hint, error.detail))), file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
