"""What is told of cut files that were fetched again."""

from __future__ import annotations

from hashlib import sha256

from jobs.corpus.extract_counts import Extracted
from jobs.corpus.refetch_counts import Refetched


def fetched(number: int, reason: str = "") -> dict[str, object]:
    return {"url": f"u{number}", "digest": f"d{number}", "bytes": 500 * number, "seconds": 0.754, "reason": reason}


def test_nothing_fetched_is_nothing_counted() -> None:
    nothing = {"cut": 0, "fetched": 0, "bytes": 0, "failed": {}, "seconds": 0.0, "digest": ""}
    assert Refetched().counts() == nothing and Refetched().kept is None
    assert "refetched" not in Extracted().counts()


def test_what_was_fetched_again_is_told() -> None:
    found, kept = Refetched(), Refetched(kept=[])
    for one in (fetched(1), fetched(2), fetched(9, "status 404: gone"), fetched(9, "status 404: lost")):
        found.add(one)
        kept.add(one)
    digest = sha256(f"{sha256(b' u1 d1').hexdigest()} u2 d2".encode()).hexdigest()
    assert found.counts() == {
        **{"cut": 4, "fetched": 2, "bytes": 1500, "failed": {"status 404": 2}, "seconds": 3.02, "digest": digest}
    }
    assert found.sentence() == (
        "2 of 4 cut PDF files of archives were fetched again (1,500 bytes in 3.0 s); 2 were not: status 404"
    )
    assert found.kept is None and kept.kept and len(kept.kept) == 4


def test_files_that_are_fetched_are_added_up() -> None:
    found, same, other = Refetched(), Refetched(), Refetched()
    for one, url in ((found, "a"), (same, "a"), (other, "b")):
        one.add({"url": url, "reason": "", "seconds": 1.25, "bytes": 1000, "digest": "d"})
        one.add({"url": "c", "reason": "too large: 7 bytes, above 5", "seconds": 0.25})
        one.add({"url": "e", "reason": "", "seconds": 0.5, "bytes": 234, "digest": "f"})
    assert found.digest == same.digest != other.digest and len(found.digest) == 64
    assert found.counts() == {
        **{"cut": 3, "fetched": 2, "bytes": 1234, "failed": {"too large": 1}, "seconds": 2.0, "digest": found.digest},
    }
    assert found.sentence() == (
        "2 of 3 cut PDF files of archives were fetched again (1,234 bytes in 2.0 s); 1 were not: too large"
    )
    counted = Extracted(given=3, refetched=found)
    assert counted.counts()["refetched"]["cut"] == 3 and found.sentence() in counted.sentences()
    assert "refetched" not in Extracted().counts()
