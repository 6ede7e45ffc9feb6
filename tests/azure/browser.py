"""What runs as the operator's browser: opens an address, and sends the form of the page where it has one.

Only the standard library is imported, as in az.py.
"""

from __future__ import annotations

import re
import sys
from urllib.parse import urlencode
from urllib.request import urlopen


def main(address: str) -> int:
    """Open an address; return the exit status."""
    with urlopen(address) as answer:
        page = answer.read().decode()
    if form := re.search(r'action="([^"]+)"', page):
        fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page))
        with urlopen(form[1], urlencode(fields).encode()) as answer:
            answer.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
