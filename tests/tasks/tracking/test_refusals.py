"""What is refused for good, and that its neighbours are sent all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.tracking.refusals import described, each, is_active, is_lasting


class Answer(Exception):
    """An error of MLflow with its status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status  {status}\n" + "x" * 300)
        self.status = status

    def get_http_status_code(self) -> int:
        return self.status


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(400, True), (404, True), (409, True), (413, True), (401, False), (429, False), (500, False)],
)
def test_a_status_that_a_retry_would_not_change(status: int, lasting: bool) -> None:
    assert is_lasting(Answer(status)) == lasting


@pytest.mark.parametrize(("error", "lasting"), [(FileNotFoundError(), True), (KeyError(), True), (OSError(), False)])
def test_a_missing_file_lasts(error: Exception, lasting: bool) -> None:
    assert is_lasting(error) == lasting


def sent(entries: list[int], bad: set[int], *, status: int = 400, worth: bool = True) -> tuple[list[int], list[int]]:
    """The entries that were taken and those refused, of a server that refuses a request with a bad one."""
    taken, refused = list[int](), list[int]()

    def send(part: object) -> None:
        assert isinstance(part, list)
        if bad & set(part):
            raise Answer(status)
        taken.extend(part)

    each(entries, send, lambda part, error: refused.extend(part), lambda: worth)
    return taken, refused


@pytest.mark.parametrize("bad", [set(), {1}, {5}, {3}, {1, 2, 5}])
def test_only_bad_entries_are_refused(bad: set[int]) -> None:
    entries = [1, 2, 3, 4, 5]
    assert sent(entries, bad) == ([one for one in entries if one not in bad], sorted(bad))


def test_where_nothing_helps_all_are_refused_at_once() -> None:
    assert sent([1, 2, 3], {2}, worth=False) == ([], [1, 2, 3])


def test_an_error_that_may_pass_is_raised() -> None:
    with pytest.raises(Answer):
        sent([1, 2], {2}, status=500)


def test_a_refusal_is_one_short_line() -> None:
    text = described(" the metric ", Answer(400))
    assert text.startswith("the metric: status 400 xxx") and len(text) == len("the metric: ") + 200


@pytest.mark.parametrize(("found", "active"), [("active", True), ("deleted", False), (404, False), (500, None)])
def test_a_run_takes_values_while_it_is_there(found: str | int, active: bool | None) -> None:
    """None: nobody knows, and the error is raised."""

    def get_run(run: str) -> Any:
        if isinstance(found, int):
            raise Answer(found)
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage=found))

    client: Any = SimpleNamespace(get_run=get_run)
    if active is None:
        with pytest.raises(Answer):
            is_active(client, "run")
    else:
        assert is_active(client, "run") is active
