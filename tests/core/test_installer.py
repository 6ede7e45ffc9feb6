"""What uv is told of pip's own configuration; the install itself is what every run of CI begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.installer import read_pip_configuration

_CONFIGURED = """
[global]
index-url = https://mirror.example/simple
extra-index-url =
    https://one.example/simple
    https://two.example/simple
trusted-host = mirror.example
cert = /etc/ours.pem
[install]
find-links = /srv/wheels
[download]
find-links = /srv/others
"""


def test_uv_looks_where_pip_is_configured_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(_CONFIGURED, encoding="utf-8")
    for name in ("PIP_FIND_LINKS", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_FIND_LINKS", "/mine/wheels /mine/more")
    options, environment = read_pip_configuration()
    given = set(zip(options[::2], options[1::2], strict=True))
    assert {
        ("--default-index", "https://mirror.example/simple"),
        ("--index", "https://one.example/simple"),
        ("--index", "https://two.example/simple"),
        ("--allow-insecure-host", "mirror.example"),
        ("--find-links", "/mine/wheels"),
        ("--find-links", "/mine/more"),
        ("--index-strategy", "unsafe-best-match"),
    } <= given
    assert not any(value.startswith("/srv/") for _, value in given)  # the variable overrules the file, as for pip
    assert environment["SSL_CERT_FILE"] == "/etc/ours.pem"
