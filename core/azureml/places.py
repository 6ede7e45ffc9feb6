"""What can be seen of Azure before a workspace is chosen."""

from __future__ import annotations

from urllib.parse import urlsplit

from core.azureml.addresses import Cloud, metadata_url, read_metadata
from core.azureml.failures import Place
from core.azureml.service_errors import explain, read_answer, service_exceptions, translate


def ask_cloud(address: str) -> Cloud:
    """Ask a resource manager which cloud it is; raise BadInput for an address that is none, or a service's error."""
    import requests

    url = metadata_url(address)
    host = urlsplit(url).netloc
    place = Place("Azure", "", "", "", host, is_local=False)
    what = f"the addresses of the cloud at {host}"
    try:
        answer = requests.get(url, timeout=(5, 15), allow_redirects=False)
        content = answer.json() if answer.ok else None
    except service_exceptions() as error:
        raise translate(error, place, "read", what) from error
    if not answer.ok:
        raise explain(read_answer(answer.status_code, answer.headers, answer.text), place, "read", what)
    return read_metadata(url, content)
