"""A running OpenAI-compatible server: what it serves, on which engine, as far as it tells."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

ENGINES = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp", "tensorrt_llm": "TensorRT-LLM"}
"""By `owned_by` of the served model."""
VERSIONS = {
    "SGLang": ("/get_server_info", "version"),
    "llama.cpp": ("/props", "build_info"),
}
"""Where an engine tells its version, and as what; others: /version."""
EXTRA = {"llama.cpp": {"cache_prompt": False}}
"""Fields of a request that only this engine takes."""
CONFIG = "vllm:cache_config_info"
KEPT = ("block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching", "kv_cache_memory_bytes")
"""Labels of vLLM's sample of that name that say what is measured."""
PATIENCE = 10.0
"""Seconds for a question about the server."""
SAMPLE = re.compile(r"^([a-z0-9_:]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`url` ends before /completions. `longest`: tokens of prompt and answer together; `folder`: the model's folder as
    the server names it; None where it does not tell. `kernels`: known from its log, where it was started here."""

    url: str
    model: str
    engine: str | None
    version: str | None
    longest: int | None
    folder: str | None
    cache: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        """The server's address without /v1."""
        return self.url.removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """The key, if there is one."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def without_prefix_cache(self) -> bool:
        """Whether the server says that its prefix cache is off, or it is told so with each request."""
        return self.cache.get("enable_prefix_caching") == "False" or "cache_prompt" in self.extra


def find(address: str, key: str | None = None) -> Endpoint:
    """The server at URL or URL#MODEL. Raises ValueError where nothing answers there or it serves another model."""
    place, _, wanted = address.partition("#")
    url = base_of(place)
    served = served_by(url, key)
    if wanted and wanted not in served:
        raise ValueError(f"{url} serves {', '.join(served)}, not {wanted}; name one of these after the #")
    if not wanted and len(served) > 1:
        raise ValueError(f"{url} serves {', '.join(served)}; say which, as in {url}#{next(iter(served))}")
    return described(url, served[wanted or next(iter(served))], key)


def base_of(address: str) -> str:
    """The address up to /completions; /v1 where it has no path."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/completions') or '/v1'}"


def described(url: str, card: dict[str, Any], key: str | None = None) -> Endpoint:
    """The server of a model by its card, with what its engine tells elsewhere."""
    owner = str(card.get("owned_by") or "")
    engine = ENGINES.get(owner, owner or None)
    known = Endpoint(
        url=url,
        model=str(card["id"]),
        engine=engine,
        version=None,
        longest=card.get("max_model_len"),
        folder=card.get("root"),
        cache={},
        extra=EXTRA.get(str(engine), {}),
        key=key,
    )
    return _asked(known)


def is_address(text: str) -> bool:
    """Whether a target is a server's address."""
    return text.startswith(("http://", "https://"))


def prefix_counts(endpoint: Endpoint) -> tuple[float, float] | None:
    """Tokens looked up in the prefix cache since the server's start, and those found there; None where it does not
    tell. The names are vLLM's."""
    told = samples(endpoint)
    looked, found = told.get("vllm:prefix_cache_queries_total"), told.get("vllm:prefix_cache_hits_total")
    return None if looked is None or found is None else (looked, found)


def get(endpoint: Endpoint, path: str) -> requests.Response | None:
    """An answer of the server to a question that not all servers understand."""
    try:
        response = requests.get(f"{endpoint.root}{path}", headers=endpoint.headers, timeout=PATIENCE)
    except requests.RequestException:
        return None
    return response if response.status_code == 200 else None


def served_by(url: str, key: str | None = None, setting: str = "--api-key-env") -> dict[str, dict[str, Any]]:
    """Cards of the served models by name; `setting` names the variable of the key. Raises ValueError where nothing
    answers, or no such server."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = requests.get(f"{url}/models", headers=headers, timeout=PATIENCE)
    except requests.RequestException as error:
        raise ValueError(
            f"no server answers at {url} ({type(error).__name__}); start one, for instance with the command that imbik"
            " serve-command RUN/MODEL prints, and wait until it is ready"
        ) from error
    if response.status_code in (401, 403):
        raise ValueError(
            f"{url} wants a key (status {response.status_code}); set it in a variable of the environment"
            f" and name that with {setting}"
        )
    try:
        cards = {str(card["id"]): card for card in response.json()["data"]}
    except (ValueError, KeyError, TypeError):
        cards = {}
    if not cards:
        raise ValueError(
            f"{url}/models names no model (status {response.status_code}), so this is no OpenAI-compatible"
            " server; check the address, which ends with /v1 as a rule"
        )
    return cards


def _asked(endpoint: Endpoint) -> Endpoint:
    """The endpoint with what its engine tells elsewhere."""
    path, key = VERSIONS.get(str(endpoint.engine), ("/version", "version"))
    told = _object(get(endpoint, path))
    longest = endpoint.longest or (told.get("default_generation_settings") or {}).get("n_ctx")
    given = {
        "version": str(told[key]) if key in told else None,
        "longest": longest,
        "folder": endpoint.folder or told.get("model_path"),
        "cache": _cache(endpoint),
    }
    return Endpoint(**(vars(endpoint) | given))


def _object(response: requests.Response | None) -> dict[str, Any]:
    try:
        value = response.json() if response is not None else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _cache(endpoint: Endpoint) -> dict[str, str]:
    """vLLM's description of its key-value cache."""
    response = get(endpoint, "/metrics")
    found = [labels for name, labels, _ in SAMPLE.findall(response.text if response else "") if name == CONFIG]
    return {name: value for name, value in LABEL.findall(found[0]) if name in KEPT} if found else {}


def samples(endpoint: Endpoint) -> dict[str, float]:
    """Sums of the server's Prometheus samples by name."""
    response = get(endpoint, "/metrics")
    sums: dict[str, float] = {}
    for name, _, value in SAMPLE.findall(response.text if response else ""):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums
