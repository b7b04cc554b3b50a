"""What all tasks have in common: named after their label, and never cached by Prefect, which cannot see a job's inputs or code."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE

OPTIONS: dict[str, Any] = {"task_run_name": "{label}", "cache_policy": NO_CACHE, "persist_result": False, "retries": 0}
