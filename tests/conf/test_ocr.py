"""Settings of text recognition: which go together, what is part of a key, what a run on this machine needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conf.cluster import LOCAL, Cluster
from conf.extraction import Extract
from conf.ocr import Ocr
from conf.placement import place_settings_on_cluster
from conf.stages.data import DataConfig

SERVER = {"endpoint": "http://host:8000/v1", "model": "eyes"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint": "http://host/v1"}, "only one of data.extract.ocr.endpoint and data.extract.ocr.model is set"),
        ({"model": "eyes"}, "only one of data.extract.ocr.endpoint and data.extract.ocr.model is set"),
        ({**SERVER, "languages": ["deu"]}, "languages are tesseract's, but an endpoint is set"),
        ({"api_key_env": "EYES_KEY"}, "api_key_env is set but no endpoint"),
        ({"languages": []}, "languages"),
        ({"languages": ["-l"]}, "languages"),
        ({"languages": ["eng+deu"]}, "languages"),
        ({"languages": ["../eng"]}, "languages"),
        ({"dpi": 71}, "greater than or equal to 72"),
        ({"dpi": 601}, "less than or equal to 600"),
        ({"seconds": 0}, "greater than 0"),
        ({"max_failed_share": 1.1}, "less than or equal to 1"),
        ({**SERVER, "endpoint": "http://me:secret@host/v1"}, "endpoint"),
        ({**SERVER, "max_tokens": 0}, "max_tokens"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Ocr.model_validate(settings)


def test_what_is_allowed_is_read() -> None:
    found = Ocr.model_validate({"languages": ["eng", "chi_sim_vert", "script/Latin"], "dpi": 72})
    assert (found.languages[1], found.dpi) == ("chi_sim_vert", 72)
    assert Ocr.model_validate({**SERVER, "dpi": 600, "max_failed_share": 1}).model == "eyes"


def test_where_a_model_is_served_is_no_part_of_a_key() -> None:
    def identity(**settings: Any) -> Any:
        return DataConfig.model_validate({"source": "world", "extract": {"ocr": settings}}).identity()

    plain = identity(**SERVER)
    assert plain["extract"]["ocr"]["model"] == "eyes"
    assert identity(endpoint="http://other/v1", model="eyes", api_key_env="KEY", retries=9) == plain
    assert identity(**SERVER, prompt="Read.") != plain
    assert identity() != identity(languages=["deu"]) != identity(languages=["deu"], dpi=200)


def test_without_ocr_keys_are_as_before() -> None:
    assert "ocr" not in Extract(seconds=5).identity()


def test_a_run_on_this_machine_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def data(**settings: Any) -> DataConfig:
        return DataConfig.model_validate({"source": "world", "extract": {"ocr": settings}})

    monkeypatch.setenv("PATH", str(tmp_path))
    elsewhere = Cluster.model_validate({"kind": "docker", "defaults": {"image": "imbik"}})
    assert place_settings_on_cluster(data(), elsewhere) == data()
    with pytest.raises(ValueError, match="not on PATH here"):
        place_settings_on_cluster(data(), LOCAL)
    assert place_settings_on_cluster(data(**SERVER), LOCAL) == data(**SERVER)
    with pytest.raises(ValueError, match="api_key_env names EYES_KEY, which is not set"):
        place_settings_on_cluster(data(**SERVER, api_key_env="EYES_KEY"), LOCAL)
    monkeypatch.setenv("EYES_KEY", "x")
    place_settings_on_cluster(data(**SERVER, api_key_env="EYES_KEY"), LOCAL)
