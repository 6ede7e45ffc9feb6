"""The tags Tunedeck writes on jobs, models, endpoints and computes, so that any Tunedeck can read what this one knew.

One table: nothing else spells a tag's name. Azure takes at most 256 characters in a resource's tag.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from core import home
from core.errors import BadInput

_OWN = "tunedeck."
_PROGRAMS = (_OWN, "azureml.", "mlflow.", "_aml")  # how the tags begin that programs write
TITLE = "tunedeck.title"  # a run's name: two words, until a person gives it another
NOTE = "tunedeck.note"  # what a person wrote about a run; "" for nothing
GROUP = "tunedeck.group"  # of runs that were started together to try several values: the name they share
OPERATION = "tunedeck.operation"  # id in the ledger of who made it
DRAFT = "tunedeck.draft"
MODEL = "tunedeck.model"  # base model's name
MODEL_VERSION = "tunedeck.model_version"
MODEL_ID = "tunedeck.model_id"
DATASET = "tunedeck.dataset"  # name shown
DATASET_KEY = "tunedeck.dataset_key"  # content hash: finds it again in the home
ROWS = "tunedeck.rows"  # training rows
STEPS = "tunedeck.steps"  # optimiser steps that were told before the start
GPUS = "tunedeck.gpus"
COMPUTE = "tunedeck.compute"
RUN = "tunedeck.run"  # the run a model, endpoint or evaluation comes from
RECIPE = "tunedeck.recipe"  # JSON of what is not the component's default
REGISTERED_MODEL = "tunedeck.registered_model"  # "name:version" behind an endpoint
SIZE = "tunedeck.size"
DELETE_AT = "tunedeck.delete_at"  # ISO time in UTC; "" for what stays
DELETE_AT_OF = "tunedeck.delete_at_of"  # `mark` of the resource it was written for: a copied tag orders nothing
DELETE_AT_STRICT = "tunedeck.delete_at_strict"  # STRICT: also while the endpoint is in use; else ""
STRICT = "yes"
CAP_HOUR = "tunedeck.cap_hour"  # of a workspace: "3.50 USD", the most that may bill per hour together; "" for none
CAP_DAY = "tunedeck.cap_day"  # of a workspace: a day that costs more is warned of
CAP_BY = "tunedeck.cap_by"  # of a workspace: who wrote its caps last
CAP = "tunedeck.cap"  # of a run or an endpoint: what it may cost in all
CAP_THEN = "tunedeck.cap_then"  # "warn", or "stop" and the `mark` of the endpoint or the run's name: a copy only warns
STOP = "stop "
KEPT_SINCE = "tunedeck.kept_since"  # ISO time: when a deletion was put off because the endpoint was in use
IDLE_HOURS = "tunedeck.idle_hours"  # after so many without work it ends by itself
IDLE_THEN = "tunedeck.idle_then"  # "delete" for an endpoint, "zero" for a cluster's minimum nodes
IDLE_OF = "tunedeck.idle_of"  # `mark` of the resource that both were written for
KEPT = "tunedeck.kept"  # a property of the local workspace's runs that ended badly: the best checkpoint
CHECKPOINT = "tunedeck.checkpoint"  # of its run, which a model is made of
STOP_ASKED = "tunedeck.stop"  # who asked a run of this machine to end, with the best that it has
STOPPED = "tunedeck.stopped"  # a property of a run that ended so: the sentence for it
CONTINUES = "tunedeck.continues"  # "run/checkpoint-40": what a run of this machine goes on from
CHECKPOINTS = "tunedeck.checkpoints"  # a property of the local workspace's fine-tune step: a JSON list
PHASE = "tunedeck.progress.phase"  # a property of the local workspace's fine-tune step
HEALTH = "tunedeck.health"  # a property of the local workspace's deployments, as the three below
RESTARTS = "tunedeck.restarts"
RESTARTED_AT = "tunedeck.last_restart_at"
LAST_EXIT = "tunedeck.last_exit"
MADE_BY = "tunedeck.made_by"  # id of the home that made it
CREATED_AT = "tunedeck.created_at"  # ISO time in UTC: endpoints do not say when they were made


def made_by() -> str:
    """Return the id of this home, made on first use."""
    path = home.current().path / "id"
    if not path.exists():
        home.write_once(path, secrets.token_hex(6))
    return path.read_text(encoding="ascii").strip()


def parse_policy_tags(text: str) -> dict[str, str]:
    """Return the tags of "name=value" pairs, divided by commas or lines, within Azure's limits; else raise BadInput."""
    pairs = [pair.partition("=") for part in re.split(r"[,\n]", text) if (pair := part.strip())]
    for name, equals, value in pairs:
        name = name.strip()
        check_tag(name if equals else "", value.strip(), f"{name}{equals}{value}")
        if name.lower().startswith(_OWN):
            raise BadInput(f"The tag '{name}' is Tunedeck's own.", "Take a name that does not begin with 'tunedeck.'.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_labels(text: str) -> dict[str, str]:
    """Return a person's own tags of a run from "name, name=value"; raises BadInput for one that cannot be."""
    pairs = [pair.partition("=") for part in text.split(",") if (pair := part.strip())]
    for name, _, value in pairs:
        check_tag(name.strip(), value.strip())
        if not is_a_persons(name.strip()):
            raise BadInput(f"The tag '{name.strip()}' belongs to a program.", "Take another name.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def check_tag(name: str, value: str, written: str = "") -> None:
    """Raise BadInput for a tag that is not within Azure's limits. written: as a person wrote it."""
    if not name or len(name) > 128 or len(value) > 256 or re.search(r"[<>%&\\?/]", name):
        raise BadInput(
            f"'{written or f'{name}={value}'}' is not a tag.",
            "Write name=value. Names have 1 to 128 characters and none of <>%&\\?/, values at most 256.",
        )


def is_a_persons(name: str) -> bool:
    """Tell whether a run's tag of this name is one that a person gives."""
    return not name.lower().startswith(_PROGRAMS)


def is_ours(tags: Mapping[str, str]) -> bool:
    """Tell whether this home made what carries these tags."""
    return tags.get(MADE_BY) == made_by()


def format_time(at: datetime) -> str:
    """Return a time as it is written in a tag."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def cap_tags(cap: str, mark: str) -> dict[str, str]:
    """Return the tags of a cap, "" for none. mark: of what is ended when it is reached; "" where that only warns."""
    return {CAP: cap, CAP_THEN: (f"{STOP}{mark}" if mark else "warn") if cap else ""}


def mark(resource_id: str, created_at: datetime | None) -> str:
    """Return what binds a tag to one resource: its id and, once it is there, when the service created it, in short."""
    name = hashlib.sha256(resource_id.lower().encode()).hexdigest()[:16]
    return f"{name} {format_time(created_at)}" if created_at else name


def parse_time(text: object) -> datetime | None:
    """Return a time of a tag or of the wire in UTC; None for nothing or for what is no time."""
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    try:
        at = datetime.fromisoformat(str(text or "").strip())
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def format_recipe(values: Mapping[str, object]) -> str:
    """Return settings as compact JSON for a tag."""
    return json.dumps(dict(values), separators=(",", ":"))


def parse_recipe(text: str | None) -> dict[str, str | int | float]:
    """Return the settings of a tag; empty where there is none or where someone else cut it short."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
