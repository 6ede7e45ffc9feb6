"""A scorer of a few lines: same command line, same files, same secret, no model. It does what it is asked.

{"status": 422} answers so, {"sleep": 2} waits, {"die": true} kills it, {"stream": true} gives `count` pieces and writes
`left` into its folder when the client goes away before the end. A model folder with a file `broken` ends it.
Asked with messages it streams `max_tokens` words as OpenAI's API does; the last message may say "die in the middle".
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
for name in ("model", "folder", "cores", "instances"):
    parser.add_argument(f"--{name}", required=True)
options = parser.parse_args()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, "healthy")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.headers.get("X-Score-Secret") != os.environ["SCORE_SECRET"]:
            self.answer(401, {"error": "secret"})
        elif asked.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        elif asked.get("stream"):
            self.stream(asked)
        else:
            time.sleep(asked.get("sleep", 0))
            told = {"output": "hello", "model": options.model, "pid": os.getpid(), "path": self.path}
            told["instances"] = int(options.instances)
            self.answer(asked.get("status", 200), told)

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for index in range(asked.get("count") or asked["max_tokens"]):
                told = {"choices": [{"delta": {"content": f"{index} "}}]} if "messages" in asked else {"piece": index}
                self.chunk(f"data: {json.dumps(told)}\n\n".encode())
                time.sleep(0.05)
                if index == 2 and "die in the middle" in json.dumps(asked):
                    os.kill(os.getpid(), signal.SIGKILL)
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        except OSError:
            (Path(options.folder) / "left").write_text("yes")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        print(self.command, self.path, flush=True)


print(f"loads {options.model}", flush=True)
if (Path(options.model) / "broken").exists():
    sys.exit("ValueError: the weights do not fit the model")
time.sleep(float(os.environ.get("LOADS_FOR_S", "0")))
service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
ready = Path(options.folder) / ".ready"
ready.write_text(json.dumps({"port": service.server_address[1], "pid": os.getpid()}))
ready.replace(Path(options.folder) / "ready.json")
service.serve_forever()
