"""Which workspaces are known to this home: ids and names, never a secret."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from core import home
from core.azureml.addresses import AZURE, CLOUDS, KEPT, Cloud, custom_cloud
from core.errors import BadInput, Conflict, NotFound
from core.locks import held

LOCAL = "local"  # the alias of the local workspace
_CHOSEN = ("policy_tags", "registries", "price_factor")  # what is kept of a workspace that is connected once more


@dataclass(frozen=True)
class Settings:
    """Which workspace; no secret. `alias` is what ?at= carries. cloud: of no meaning to the local workspace."""

    alias: str
    kind: Literal["local", "azure"]
    subscription_id: str
    resource_group: str
    workspace_name: str
    tenant_id: str | None = None
    registry_name: str = "azureml"
    registries: tuple[str, ...] = field(default=(), compare=False)
    """More registries whose models are listed, by name: those of other subscriptions."""
    cloud: Cloud = AZURE
    policy_tags: str = field(default="", compare=False)
    """What a company's policy wants on each resource, as its operator typed it: see tags.parse_policy_tags."""
    price_factor: float = field(default=1.0, compare=False)
    """What the company pays of a list price: 0.83 for a discount of 17 %."""

    def __post_init__(self) -> None:
        if not 0 < self.price_factor <= 2:
            raise BadInput(
                f"{self.price_factor:g} cannot be a share of list prices.",
                "Give a number above 0 and at most 2: 1 is the list price, 0.83 is 17 % less.",
            )


def local_settings() -> Settings:
    """Return the settings of the local workspace; the same in every home."""
    return Settings(LOCAL, "local", home.SUBSCRIPTION_ID, home.RESOURCE_GROUP, home.WORKSPACE_NAME, tenant_id="local")


def list_settings(of: home.Home | None = None) -> list[Settings]:
    """Return the workspaces known to a home, this process's own: the local one first, then those saved, last first."""
    return [local_settings(), *_read(of)]


def find_settings(alias: str, of: home.Home | None = None) -> Settings | None:
    """Return the workspace of that alias."""
    return next((known for known in list_settings(of) if known.alias == alias), None)


def save_settings(settings: Settings) -> None:
    """Remember a workspace; the local one needs no remembering.

    What was kept with one that is known stays (`change_settings`). Raises Conflict where its alias is another's: two
    that have the same name were connected at once.
    """
    if settings.kind == "local":
        return
    with _locked():
        known = next((known for known in _read() if known.alias == settings.alias), None)
        if known and _place(known) != _place(settings):
            raise Conflict(
                f"Another workspace was connected as '{settings.alias}' meanwhile.",
                "Check access once more: this one gets a name of its own.",
            )
        _save(_keep_chosen(settings, known) if known else settings)


def change_settings(alias: str, **chosen: object) -> None:
    """Change what is kept with a workspace (`policy_tags`, `registries`, `price_factor`) as it is kept now.

    Raises NotFound where it was removed from the home.
    """
    with _locked():
        known = next((known for known in _read() if known.alias == alias), None)
        if known is None:
            raise NotFound(f"The workspace '{alias}' is not kept here any more.", "Check access to it once more.")
        _save(replace(known, **chosen))  # type: ignore[arg-type]


def _save(settings: Settings) -> None:
    others = [known for known in _read() if known.alias != settings.alias]
    text = json.dumps({"connections": [_to_json(known) for known in [settings, *others]]}, indent=2)
    home.write_atomically(home.current().connections, text + "\n")


def _keep_chosen(settings: Settings, known: Settings) -> Settings:
    return replace(settings, **{name: getattr(known, name) for name in _CHOSEN})


def make_settings(
    subscription_id: str, resource_group: str, workspace_name: str, tenant_id: str | None = None, cloud: Cloud = AZURE
) -> Settings:
    """Return settings for a workspace on Azure, checked and with an alias of its own, or raise BadInput."""
    subscription_id, resource_group, workspace_name = (
        subscription_id.strip().lower(),
        resource_group.strip(),
        workspace_name.strip(),
    )
    try:
        uuid.UUID(subscription_id)
    except ValueError:
        raise BadInput(
            f"'{subscription_id}' is not a subscription id.",
            'It has the form 00000000-0000-0000-0000-000000000000. `az account show` prints it as "id".',
        ) from None
    for name, words in ((resource_group, "resource group"), (workspace_name, "workspace")):
        if not re.fullmatch(r"[\w.()-]{1,90}", name):
            raise BadInput(
                f"'{name}' cannot be the name of a {words}." if name else f"The name of the {words} is missing.",
                "Names hold letters, digits, hyphens, underscores, dots and parentheses.",
            )
    tenant = (tenant_id or "").strip() or None
    return _with_alias(Settings("", "azure", subscription_id, resource_group, workspace_name, tenant, cloud=cloud))


def parse_config_json(content: bytes, cloud: Cloud = AZURE) -> Settings:
    """Return the settings in a workspace's config.json, or raise BadInput."""
    try:
        config = json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as problem:
        raise BadInput(
            "The file is not a config.json: it is not JSON.",
            "Download it again from the workspace's overview page in the Azure portal.",
            str(problem),
        ) from problem
    values = _find_ids(config)
    missing = [name for name in ("subscription_id", "resource_group", "workspace_name") if name not in values]
    if missing:
        raise BadInput(
            f"The config.json has no {' and no '.join(missing)}.",
            "Download it again from the workspace's overview page in the Azure portal.",
        )
    ids = (values["subscription_id"], values["resource_group"], values["workspace_name"])
    return make_settings(*ids, values.get("tenant_id"), cloud)


def _find_ids(config: Any) -> dict[str, str]:
    """Return the ids of a config.json, also of the older form that holds them as one "Scope" path."""
    if not isinstance(config, dict):
        return {}
    names = ("subscription_id", "resource_group", "workspace_name", "tenant_id")
    values = {name: config[name] for name in names if isinstance(config.get(name), str) and config[name].strip()}
    scope = config.get("Scope") or config.get("scope") or ""
    path = re.fullmatch(
        r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*/workspaces/([^/]+)/?", str(scope), re.IGNORECASE
    )
    return {**dict(zip(names, path.groups(), strict=False)), **values} if path else values


def _with_alias(settings: Settings) -> Settings:
    """Give it the alias it was saved under, or a free one made from its name."""
    saved = _read()
    wanted = re.sub(r"[^a-z0-9]+", "-", settings.workspace_name.lower()).strip("-") or "azure"
    for known in saved:
        if _place(known) == _place(settings):
            return replace(_keep_chosen(settings, known), alias=known.alias)
    taken = {LOCAL, *(known.alias for known in saved)}
    alias, number = wanted, 2
    while alias in taken:
        alias, number = f"{wanted}-{number}", number + 1
    return replace(settings, alias=alias)


def _to_json(settings: Settings) -> dict[str, Any]:
    """Return what is kept: of a cloud its name, or what a custom one is made from."""
    cloud = settings.cloud
    kept = {name: getattr(cloud, name) for name in KEPT} if cloud.is_custom else cloud.name
    return {**asdict(settings), "cloud": kept}


def _from_json(entry: dict[str, Any]) -> Settings:
    names = {each.name for each in fields(Settings)}
    kept = entry.get("cloud", AZURE.name)  # older homes know the public one alone
    cloud = CLOUDS[kept] if isinstance(kept, str) else custom_cloud(**kept)
    found = {key: value for key, value in entry.items() if key in names}
    return Settings(**{**found, "cloud": cloud, "registries": tuple(found.get("registries", ()))})


def _place(settings: Settings) -> tuple[str, str, str]:
    return settings.subscription_id.lower(), settings.resource_group.lower(), settings.workspace_name.lower()


def _read(of: home.Home | None = None) -> list[Settings]:
    path = (of or home.current()).connections
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["connections"]
        return [_from_json(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"The file {path.name} in the home folder cannot be read.",
            f"Repair or remove {path}: it only remembers which workspaces were used.",
            str(problem),
        ) from problem


def _locked() -> AbstractContextManager[int]:
    return held(home.current().create().path / "connections.lock")
