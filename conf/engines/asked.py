"""Who answers benchmarks: imbik itself, vLLM where the jobs run, or an OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from conf.base import MOST_PROCESSES, Config, Execution
from conf.patterns import ADDRESS, VARIABLE

FORMS = "simulate, vllm, vllm==VERSION, or {endpoint: URL, model: NAME}"
PINNED = "=="
OF_A_SERVER = ("endpoint", "model", "api_key_env", "concurrency", "timeout_seconds", "retries")
UNKNOWN = "an engine that does not tell its name"
"""A server's `version` where it does not say what it is."""


class AnsweredBy(Config):
    """The engine that answers one model's questions. Its name and version decide the answers."""

    name: Literal["vllm", "endpoint"] = Field(description="vllm, where the job runs; endpoint: a server.")
    version: str | None = Field(
        default=None, description="Version of vLLM, or the server's engine with its version; the job checks it."
    )
    model: str | None = Field(default=None, description="Name of the model on the server.")
    endpoint: Annotated[str | None, Execution()] = Field(default=None, description="Base URL of the server.")
    api_key_env: Annotated[str | None, Execution()] = Field(
        default=None, description="Name of the environment variable with the server's API key, not the key itself."
    )
    concurrency: Annotated[int | None, Execution()] = Field(default=None, description="Concurrent requests to it.")
    timeout_seconds: Annotated[float | None, Execution()] = Field(default=None, description="Timeout of one request.")
    retries: Annotated[int | None, Execution()] = Field(default=None, description="Retries of a failed request.")


class EngineConfig(Config):
    """Who answers the benchmarks: `simulate`, `vllm`, `vllm==VERSION`, or an endpoint."""

    name: Literal["simulate", "vllm", "endpoint"] = Field(
        default="simulate",
        description=(
            "simulate: imbik itself, with transformers, where quantization is simulated; vllm: vLLM where the jobs run"
            " (make engine, or IMBIK_VLLM_PYTHON); endpoint: an OpenAI-compatible server."
        ),
    )
    version: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Version of vLLM, or what the server says it is (vLLM 0.32.0): a part of the answers' keys. Empty: read"
            " before the first job."
        ),
    )
    endpoint: str | None = Field(
        default=None, pattern=ADDRESS, description="Base URL of the server, for instance http://host:8000/v1."
    )
    model: str | dict[str, str] | None = Field(
        default=None,
        description=(
            "Name of the model on the server; in a recipe names by model of the report, as in {depth-fp8: NAME}: the"
            " other models are simulated."
        ),
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=VARIABLE,
        description="Name of the environment variable with the server's API key, not the key itself.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PROCESSES,
        description="Concurrent requests to the server; empty: 16 for an endpoint.",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="Timeout of one request in seconds; empty: 600 for an endpoint."
    )
    retries: int | None = Field(
        default=None, ge=0, description="Retries of a failed request; empty: 5 for an endpoint."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """The short forms: a name, a name with a version, an endpoint without the name."""
        if isinstance(value, dict):
            return {"name": "endpoint"} | value if value.get("endpoint") else value
        if not isinstance(value, str):
            return value
        name, pinned, version = value.partition(PINNED)
        if name not in ("simulate", "vllm") or (pinned and (name == "simulate" or not version)):
            raise ValueError(f"evaluate.engine is {value[:80]!r}; use {FORMS}")
        return {"name": name, "version": version or None}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        served = {key: getattr(self, key) for key in OF_A_SERVER}
        if self.name == "endpoint":
            if missing := [key for key in ("endpoint", "model") if not served[key]]:
                raise ValueError(f"evaluate.engine is an endpoint without {missing[0]}; use {FORMS}")
            return self
        if extra := [key for key, value in served.items() if value is not None]:
            raise ValueError(
                f"evaluate.engine is {self.name}, but {extra[0]} is that of an endpoint; remove it, or set name to"
                " endpoint"
            )
        if self.name == "simulate" and self.version:
            raise ValueError("evaluate.engine is simulate, which has no version; remove it")
        return self

    def by(self, model: str) -> AnsweredBy | None:
        """Who answers a model's questions, by its name in the report; None: imbik itself."""
        if self.name == "simulate":
            return None
        if self.name == "vllm":
            return AnsweredBy(name="vllm", version=self.version)
        served = self.model.get(model) if isinstance(self.model, dict) else self.model
        if served is None:
            return None
        sent = {key: getattr(self, key) for key in OF_A_SERVER}
        return AnsweredBy(name="endpoint", version=self.version, **sent | {"model": served})
