"""`imbik up` killed while a run trains, and started again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from flows.server.recovery import GONE
from tasks.launch.ports import free_port
from tasks.tracking.servers import services
from tests.fixtures.flow import first_step_since, imbik, reached, wait_for
from tests.fixtures.pages import LONG, ONE_STUDENT, Site, end, recipe, serve

pytestmark = pytest.mark.drill
FLOW = "compress/one-student"


def test_what_a_killed_imbik_up_leaves_is_settled_by_the_next(tmp_path: Path) -> None:
    store, ports = tmp_path / "store", (free_port(), free_port())
    site = Site(store=store, pages=f"http://127.0.0.1:{ports[0]}", receiver="")
    process = serve(store, ports)
    try:
        deployed = imbik("deploy", str(ONE_STUDENT), store=store)
        assert deployed.returncode == 0, deployed.stderr
        taken = f"cannot listen on 127.0.0.1:{ports[0]} (Address already in use); choose another --prefect-port"
        for where, sentence in ((store, f"imbik up already runs for the store {store}"), (tmp_path / "other", taken)):
            refused = imbik("up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), store=where)
            assert refused.returncode == 2
            assert sentence in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
        assert services(store)["prefect"] == f"{site.pages}/api", "a refused imbik up disturbs the one that runs"

        run = site.begin(FLOW, recipe=recipe(*LONG, "teacher.steps=500", "teacher.checkpoint_every=50"), name="long")
        wait_for(lambda: reached(store) >= 100, 240, f"nothing was taught: {site.state(run)}")
        end(process, signal.SIGKILL, store)
        assert services(store) == {}, "the servers that are gone are still believed in"
        found = reached(store)
        process = serve(store, ports)
        assert (site.state(run)["type"], site.state(run)["message"]) == ("CRASHED", GONE)
        small = site.begin(FLOW, recipe=recipe("teacher.steps=20", "quantize=[]", "distill=null"), name="small")
        assert site.end(small)["type"] == "COMPLETED", "the slot of the run that is gone is not free"
        assert reached(store) == found
        retried = time.time()
        site.retry(run)
        assert site.end(run)["type"] == "COMPLETED"
        assert first_step_since(store, "long", retried) > found, "steps before the end were made again"
    finally:
        end(process, signal.SIGTERM, store)
    assert "1 flow run ended with the last imbik up" in (process.stdout.read() if process.stdout else "")
