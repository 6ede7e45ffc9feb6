"""What is checked before a chat is sent; the answers are tested where an endpoint answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.azureml.connection import connect
from core.azureml.settings import local_settings
from core.errors import BadInput
from core.home import Home
from core.serving.chat import stream_chat
from core.serving.endpoints import EndpointView, ProvisioningState


def test_half_of_a_character_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    """Nobody serves this home: what is sent is Unreachable."""
    conn = connect(local_settings(), home=Home(tmp_path).create())
    endpoint = EndpointView("shop", ProvisioningState.SUCCEEDED, "http://127.0.0.1:9/score")
    messages = [{"role": "system", "content": "Be kind 😀."}, {"role": "user", "content": "cut \ud83d"}]
    with pytest.raises(BadInput, match=r"Message 2 \(user\) holds half of a character\.") as refused:
        next(stream_chat(conn, endpoint, messages))
    assert "ud83d" in refused.value.detail
