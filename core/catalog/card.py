"""What else a registry tells of a base model: languages, size, deployment templates, and terms to accept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.catalog.allow_list import to_names

_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}
_IN_NAME = re.compile(r"(?i)(?<![\w.])(\d+(?:\.\d+)?)\s?([mbt])(?=$|[^a-z0-9])")
_IN_TEXT = re.compile(r"(?i)(?<![\w.])(\d+(?:\.\d+)?)[ -]?([mbt])(?:illion|rillion)?[ -]param")
_COUNT_KEYS = ("parameters", "parametercount", "numparameters", "modelsize")
_BYTES_KEYS = ("weightsbytes", "modelsizebytes", "sizebytes")
_LINK_KEYS = ("licenseurl", "licenselink", "licenceurl", "termsurl", "termslink")
_OPEN = re.compile(r"(?i)(mit|apache|bsd|isc|cc0|cc-by-(sa-)?\d|unlicense|mpl|epl|zlib|wtfpl|postgresql)\b.*")


@dataclass(frozen=True)
class Terms:
    """What a person has to accept before a model may be used."""

    words: str
    """A sentence."""
    url: str
    """Where the registry says that it is read; "" where it says nowhere."""
    page: str
    """The model's own page, below the studio's address."""

    def find_url(self, studio: str) -> str:
        """Return where the terms are read and accepted. studio: its address in the model's cloud."""
        return self.url or f"{studio}/{self.page}"


@dataclass(frozen=True)
class Card:
    """What a list has no room for."""

    languages: tuple[str, ...] = ()
    most_output: int | None = None
    """Tokens of one answer."""
    parameters: int | None = None
    parameters_source: str = ""
    """ "stated", or "by its name" and "by its text" where it was read out of words."""
    weights_bytes: int | None = None
    templates: tuple[str, ...] = ()
    """Asset ids of its deployment templates, the default first."""
    terms: Terms | None = None


def read_card(name: str, licence: str, asset_id: str, wire: Mapping[str, Any]) -> Card:
    """Return the card that a version's properties tell; tags count before properties before system metadata."""
    metadata = wire.get("systemMetadata") or wire.get("system_metadata") or {}
    told = {
        _letters(key): value
        for source in (metadata, wire.get("properties"), wire.get("tags"))
        for key, value in (source or {}).items()
        if value not in (None, "")
    }
    texts = [str(told.get("summary") or ""), str(wire.get("description") or "")]
    parameters, source = _read_parameters(name, told, texts)
    return Card(
        languages=_read_languages(told.get("languages")),
        most_output=to_int(told.get("maxoutputtokens")),
        parameters=parameters,
        parameters_source=source,
        weights_bytes=next((size for key in _BYTES_KEYS if (size := to_int(told.get(key)))), None),
        templates=tuple(dict.fromkeys(_list_templates(wire))),
        terms=_read_terms(licence, told, texts, _page_of(asset_id)),
    )


def to_int(text: Any) -> int | None:
    """Return a whole number that a tag says, None where it says none."""
    digits = str(text or "").replace(",", "").strip()
    return int(digits) if re.fullmatch(r"[0-9]{1,15}", digits) else None


def _read_parameters(name: str, told: Mapping[str, Any], texts: list[str]) -> tuple[int | None, str]:
    for key in _COUNT_KEYS:
        if count := to_int(told.get(key)):
            return count, "stated"
        if found := _IN_NAME.search(str(told.get(key) or "")):
            return _count(found), "stated"
    if found := _IN_NAME.search(re.sub(r"[-_/]", " ", name)):
        return _count(found), "by its name"
    for text in texts:
        if found := _IN_TEXT.search(text[:4000]) or (_IN_NAME.search(text) if text is texts[0] else None):
            return _count(found), "by its text"
    return None, ""


def _count(found: re.Match[str]) -> int:
    return round(float(found[1]) * _UNITS[found[2].lower()])


def _read_languages(value: Any) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(name.lower() for name in to_names(value))) if value else ()
    except ValueError:
        return ()


def _list_templates(wire: Mapping[str, Any]) -> Iterator[str]:
    allowed = wire.get("allowedDeploymentTemplates")
    for each in [wire.get("defaultDeploymentTemplate"), *(allowed if isinstance(allowed, list) else [])]:
        if isinstance(each, Mapping) and each.get("assetId"):
            yield str(each["assetId"])


def _read_terms(licence: str, told: Mapping[str, Any], texts: list[str], page: str) -> Terms | None:
    """Return what is to be accepted: an offer of the marketplace, or a licence that is the publisher's own."""
    offer = next((value for key, value in told.items() if "marketplace" in key), None)
    if offer is not None and str(offer).lower() not in ("false", "0"):
        return Terms("It is offered through Azure Marketplace: its offer is accepted there first.", "", page)
    if not licence or _OPEN.fullmatch(licence):
        return None
    links = (str(told[key]) for key in _LINK_KEYS if str(told.get(key) or "").startswith("https://"))
    said = "\n".join([str(told.get("licensedescription") or ""), *texts])
    found = re.search(r"(?i)licen[cs]e[^\n]{0,80}?(https://[^\s)\]>\"']+)", said)
    url = next(links, found[1].rstrip(".,;") if found else "")
    return Terms(f"Its licence, '{licence}', is the publisher's own: whoever uses it has to accept it.", url, page)


def _page_of(asset_id: str) -> str:
    """Return the path of a model's page in the studio, which shows its terms."""
    return asset_id.removeprefix("azureml://").replace("/versions/", "/version/")


def _letters(key: object) -> str:
    return re.sub(r"[^a-z]", "", str(key).lower())
