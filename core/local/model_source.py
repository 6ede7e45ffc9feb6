"""Where a base model comes from: a folder of this machine, or the Hugging Face hub. Reads no more than it is asked for.

Only files by names of a short list are ever read or written, each straight in the model's folder: no listing of a
repository can name a path elsewhere. The token comes from HF_TOKEN and is written nowhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from core.errors import BadInput, NotFound, TunedeckError, Unreachable

WEIGHTS = re.compile(r"[\w.-]{1,100}\.safetensors")
# What is taken beside the weights, and the most bytes of each.
SMALL = {
    "config.json": 1 << 20,
    "generation_config.json": 1 << 20,
    "model.safetensors.index.json": 16 << 20,
    "tokenizer.json": 128 << 20,
    "tokenizer_config.json": 16 << 20,
    "tokenizer.model": 64 << 20,
    "special_tokens_map.json": 1 << 20,
    "added_tokens.json": 16 << 20,
    "chat_template.jinja": 1 << 20,
    "vocab.json": 64 << 20,
    "merges.txt": 64 << 20,
    "LICENSE": 1 << 20,
    "README.md": 4 << 20,
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_PIECE = 1 << 16
_CONNECT_S, _SILENCE_S = 5, 30
_TRIES = 5  # in a row that brought nothing

Take = Callable[[bytes], object]


@dataclass(frozen=True)
class File:
    """One file of a model. sha256: as the hub says, "" where it says none."""

    name: str
    size: int
    sha256: str = ""


@dataclass
class Source(ABC):
    """A model that can be looked at and fetched. title: how it is spoken of; place: a path, or the address of its page.

    commit: another one where the files are others.
    """

    title: str
    place: str
    files: dict[str, File] = field(default_factory=dict)
    commit: str = ""
    on_hub: ClassVar[bool] = False

    @abstractmethod
    def read(self, name: str, take: Take, first: int = 0, last: int | None = None) -> None:
        """Hand out the bytes of a file from `first` to `last` (both of them included), or to its end."""

    def read_part(self, name: str, first: int, count: int) -> bytes:
        """Return some bytes of a file."""
        parts = bytearray()
        self.read(name, parts.extend, first, first + count - 1)
        return bytes(parts[:count])

    def choose_files(self, names: dict[str, File]) -> None:
        """Keep what a model consists of; raises BadInput where that is a pickle, or more than may be."""
        kept = {name: file for name, file in names.items() if name in SMALL or WEIGHTS.fullmatch(name)}
        weights = sorted(name for name in kept if WEIGHTS.fullmatch(name))
        if "model.safetensors" in weights and "model.safetensors.index.json" not in kept:
            weights = ["model.safetensors"]  # beside it may lie the same ones in another form
        for name, file in kept.items():
            if file.size > SMALL.get(name, file.size):
                raise BadInput(f"{name} of {self.title} is larger than any such file is.", "Choose another model.")
        if not weights and (pickles := [name for name in names if name.endswith(_PICKLES)]):
            said = f"{self.title} has its weights as a pickle ({pickles[0]}), which can run code as it is read."
            raise BadInput(said, "Choose a model with .safetensors files; its owner can convert it.")
        self.files = {name: file for name, file in kept.items() if name in SMALL or name in weights}


class FolderSource(Source):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.name, str(folder))
        if not folder.is_dir():
            raise NotFound(
                f"There is no folder {folder} on this machine.", "Give the whole path of the model's folder."
            )
        self.folder = folder.resolve()
        roots = [self.folder]
        if self.folder.parent.name == "snapshots":  # of the hub's own cache, where files are links to its blobs
            roots.append(self.folder.parent.parent / "blobs")
        found, seen = {}, hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if not (path.name in SMALL or path.suffix in (".safetensors", *_PICKLES)):
                continue
            real = path.resolve()
            if not any(real.is_relative_to(root) for root in roots):
                raise BadInput(f"{path.name} leads out of the folder {folder}.", "Put the file itself there.")
            if not real.is_file() or not stat.S_ISREG(real.stat().st_mode):
                raise BadInput(f"{path.name} in {folder} is no file.", "Remove it.")
            found[path.name] = File(path.name, real.stat().st_size)
            seen.update(f"{path.name} {real.stat().st_size} {real.stat().st_mtime_ns}\n".encode())
        self.commit = seen.hexdigest()
        self.choose_files(found)

    def read(self, name: str, take: Take, first: int = 0, last: int | None = None) -> None:
        """Read from the disk."""
        left = (self.files[name].size if last is None else last + 1) - first
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(first)
                while left > 0 and (piece := file.read(min(_PIECE, left))):
                    take(piece)
                    left -= len(piece)
        except OSError as error:
            raise BadInput(f"{name} cannot be read.", "Check its permissions.", str(error)) from error


class HubSource(Source):
    """A repository of the Hugging Face hub at one commit."""

    on_hub = True

    def __init__(self, name: str, revision: str) -> None:
        super().__init__(name, f"{_endpoint()}/{name}")
        check_name(name, revision)
        from huggingface_hub import HfApi, hf_hub_url

        self._url, self._token = hf_hub_url, os.environ.get("HF_TOKEN") or None
        with self._asking(name, revision):
            api = HfApi(endpoint=_endpoint(), token=self._token or False)
            info = api.model_info(name, revision=revision or None, files_metadata=True, timeout=_SILENCE_S)
        self.commit = str(info.sha)
        found = {}
        for each in info.siblings or []:
            if "/" not in each.rfilename:
                sha256 = str(each.lfs.sha256) if each.lfs else ""
                found[each.rfilename] = File(each.rfilename, int(each.size or 0), sha256)
        self.choose_files(found)

    def read(self, name: str, take: Take, first: int = 0, last: int | None = None) -> None:
        """Ask the hub for a range; a line that breaks is taken up where it broke."""
        end = self.files[name].size - 1 if last is None else last
        at, tries = first, 0
        while at <= end:
            before = at
            try:
                for piece in self._stream(name, at, end):
                    take(piece[: end + 1 - at])
                    at += len(piece)
                    if at > end:
                        break
            except Unreachable:
                tries = tries + 1 if at == before else 0
                if tries >= _TRIES:
                    raise
            else:
                if at == before:
                    raise BadInput(f"{_host()} gave less of {name} than it says there is.", "Try again later.")

    def _stream(self, name: str, first: int, last: int) -> Iterator[bytes]:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

        url = self._url(self.title, name, revision=self.commit, endpoint=_endpoint())
        headers = build_hf_headers(token=self._token or False)
        headers |= {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        limits = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        with (
            self._asking(self.title, self.commit),
            get_session().stream("GET", url, headers=headers, timeout=limits, follow_redirects=True) as answer,
        ):
            hf_raise_for_status(answer)
            skip = 0 if answer.status_code == 206 else first  # a server may give the whole file
            for piece in answer.iter_bytes(_PIECE):
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    @contextmanager
    def _asking(self, name: str, revision: str) -> Iterator[None]:
        """Turn what the hub's client raises into sentences."""
        from huggingface_hub import errors
        from huggingface_hub.utils import httpx

        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise Unreachable("HF_HUB_OFFLINE is set: the hub is not asked.", "Unset it, or add a folder.") from error
        except errors.GatedRepoError as error:
            hint = f"Accept its terms at {_endpoint()}/{name}, then start Tunedeck with a token in HF_TOKEN."
            if self._token:
                hint = f"Accept its terms at {_endpoint()}/{name} as the owner of the token in HF_TOKEN."
            raise BadInput(f"{name} is gated: its owner wants its terms accepted.", hint) from error
        except errors.RevisionNotFoundError as error:
            raise NotFound(f"{name} has no revision '{revision}'.", "Leave it empty for the newest.") from error
        except errors.RepositoryNotFoundError as error:
            hint = "Check the name. A private model needs a token in HF_TOKEN as Tunedeck is started."
            raise NotFound(f"There is no model '{name}' on {_host()}.", hint) from error
        except errors.HfHubHTTPError as error:
            raise self._refused(error) from error
        except (httpx.RequestError, OSError) as error:
            hint = "Check the network, or fetch the model elsewhere and add its folder."
            raise Unreachable(f"{_host()} cannot be reached from this machine.", hint, type(error).__name__) from error

    def _refused(self, error: Any) -> TunedeckError:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            return BadInput(f"{_host()} refuses the token in HF_TOKEN.", "Start Tunedeck with one that is good.")
        if status == 429 or status >= 500:
            return Unreachable(f"{_host()} answers with status {status}.", "Try again in some minutes.")
        return BadInput(f"{_host()} refuses with status {status}.", "Check name and revision.")


def open_source(source: str, revision: str = "") -> Source:
    """Return a model by what an operator typed: a path, owner/name, or the address of its page."""
    source = source.strip()
    if source.startswith(("/", "~")):
        return FolderSource(Path(source).expanduser())
    return HubSource(re.sub(r"^https?://[^/]+/", "", source).strip("/"), revision.strip())


def check_name(name: str, revision: str = "") -> None:
    """Raise BadInput for what cannot be the id of a model on the hub, or a revision of it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        name = ""
        raise BadInput("That is not the id of a model.", "Ids look like Qwen/Qwen3-0.6B.") from error
    if not re.fullmatch(r"[\w./-]{0,100}", revision) or ".." in revision:
        raise BadInput("That is not a revision.", "Give a branch, a tag or a commit, or leave it empty.")


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _host() -> str:
    return re.sub(r"^https?://", "", _endpoint())
