"""The services of deploy/compose.yaml as processes of this machine: its commands and settings, other addresses, no container."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from flows.server import free_port
from tasks.local import end_trees

ROOT = Path(__file__).parents[1]
DEPLOY, BIN = ROOT / "deploy", Path(sys.executable).parent
START_SECONDS = 300.0


class Stack:
    """Services by their names in compose.yaml. `secrets` are the values of deploy/.env, all of them planted to be looked for."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.data = root, root / "store", root / "data"
        for folder in (self.store, self.data, root / "backups", root / "logs", root / "home"):
            folder.mkdir()
        self.services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
        names = [line.partition("=")[0] for line in (DEPLOY / ".env.example").read_text().splitlines() if line.endswith("=")]
        self.secrets = {name: f"planted-{secrets.token_hex(12)}" for name in names if not name.endswith("_DIR")}
        self.secrets["PREFECT_SERVER_API_AUTH_STRING"] = f"admin:{self.secrets['PREFECT_SERVER_API_AUTH_STRING']}"
        self.ports = {name: free_port() for name in ("postgres", "s3", "prefect", "mlflow", "worker")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str) -> str:
        """A text of compose.yaml with its variables filled in and its addresses and folders those of this machine."""
        text = re.sub(r"\$\{([A-Z_]+)(?::\?[^}]*|-)\}", lambda match: self.secrets[match[1]], text)
        exact = {"postgres": "127.0.0.1", "/store": str(self.store), "/store:/data": f"{self.store}:{self.data}", "0.0.0.0": "127.0.0.1"}
        exact |= {"5432": str(self.ports["postgres"]), "4200": str(self.ports["prefect"]), "5000": str(self.ports["mlflow"])}
        exact |= {"8080": str(self.ports["worker"]), "deploy/mlflow-server.sh": str(DEPLOY / "mlflow-server.sh")}
        for name, port in (("postgres", 5432), ("s3", 8333), ("prefect", 4200), ("mlflow", 5000)):
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{self.ports[name]}")
        return exact.get(text) or re.sub(r"^(/tmp|/var/lib)", str(self.root / "home"), re.sub(r"^/store(?=/)", str(self.store), text))

    def environment(self, name: str) -> dict[str, str]:
        """What a service of compose.yaml gets, and nothing else of this process's environment but where programs are."""
        own = {key: self.here(str(value)) for key, value in self.services[name]["environment"].items()}
        path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return path | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MLFLOW_WORKERS": "1"} | own

    def start(self, name: str, **added: str) -> None:
        """Start a service by its own command."""
        command = [self.here(str(part)) for part in self.services[name]["command"]]
        self.spawn(name, command, self.environment(name) | added)

    def spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.root / "logs" / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def stop(self, *names: str) -> None:
        """End services and whatever they started."""
        roots = []
        for name in names or tuple(self.running):
            with contextlib.suppress(psutil.NoSuchProcess):
                roots.append(psutil.Process(self.running[name].pid))
        end_trees(roots)
        for name in names or tuple(self.running):
            self.running.pop(name).wait()

    def wait(self, name: str, path: str) -> None:
        """Until a service answers what its health check asks."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=5).ok:
                    return
            log = (self.root / "logs" / f"{name}.log").read_text()[-3000:]
            assert self.running[name].poll() is None and time.monotonic() < deadline, log
            time.sleep(0.1)

    def prefect(self, method: str, path: str, **body: Any) -> Any:
        """One request to Prefect's API, logged in."""
        user, _, password = self.secrets["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
        url = f"http://127.0.0.1:{self.ports['prefect']}/api{path}"
        answer = requests.request(method, url, json=body or None, auth=(user, password), timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def mlflow(self, method: str, path: str, **body: Any) -> requests.Response:
        """One request to MLflow, logged in."""
        url = f"http://127.0.0.1:{self.ports['mlflow']}{path}"
        login = ("admin", self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"])
        return requests.request(method, url, json=body or None, auth=login, timeout=30)

    def postgres(self) -> dict[str, str]:
        """Environment of psql, pg_dump and the scripts in deploy/, as the superuser."""
        own = {"PGHOST": "127.0.0.1", "PGPORT": str(self.ports["postgres"]), "PGUSER": "postgres"}
        return {"PATH": os.environ["PATH"], "PGPASSWORD": self.secrets["POSTGRES_PASSWORD"]} | own

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A script of deploy/, as the superuser of the databases."""
        environment = self.postgres() | {name: value for name, value in self.secrets.items() if name.endswith("_DB_PASSWORD")}
        return subprocess.run([str(DEPLOY / name), *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL with the roles and databases of postgres-init.sh, and an S3 endpoint (moto) with MLflow's bucket; the rest is to start."""
    missing = [program for program in ("initdb", "postgres", "pg_dump", "pg_restore", "psql") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on this machine: apt-get install postgresql")
    made = Stack(tmp_path_factory.mktemp("stack"))
    cluster = Path(tempfile.mkdtemp(prefix="imbik-postgres-"))  # its user may not enter pytest's own folder
    try:
        _postgres(made, cluster)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(made.ports["s3"])]
        made.spawn("s3", command, {"PATH": os.environ["PATH"]})
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(["pg_isready", "--quiet"], env=made.postgres(), check=False).returncode:
            assert time.monotonic() < deadline and made.running["postgres"].poll() is None, "PostgreSQL did not start"
            time.sleep(0.1)
        done = made.script("postgres-init.sh")
        assert done.returncode == 0, done.stderr
        made.wait("s3", "/")
        made.spawn("bucket", [sys.executable, str(DEPLOY / "bucket.py"), "mlflow"], made.environment("bucket"))
        assert made.running.pop("bucket").wait(60) == 0
        yield made
    finally:
        made.stop()
        shutil.rmtree(cluster, ignore_errors=True)


def _postgres(stack: Stack, cluster: Path) -> None:
    """A new cluster on a port of its own; PostgreSQL refuses root, so root runs it as nobody."""
    (cluster / "password").write_text(stack.secrets["POSTGRES_PASSWORD"])
    other = []
    if os.getuid() == 0:
        other = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        for path in (cluster, cluster / "password"):
            shutil.chown(path, "nobody", "nogroup")
    initdb = ["initdb", f"--pgdata={cluster}/data", "--username=postgres", f"--pwfile={cluster}/password", "--auth=scram-sha-256"]
    subprocess.run([*other, *initdb, "--encoding=UTF8", "--no-sync"], cwd=cluster, check=True, capture_output=True)
    (cluster / "password").unlink()
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={stack.ports['postgres']}", "-c", f"unix_socket_directories={cluster}"]
    stack.spawn("postgres", [*other, "postgres", "-D", f"{cluster}/data", *settings, "-c", "fsync=off"], {"PATH": os.environ["PATH"]})
