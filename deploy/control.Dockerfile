# The control side: flows, Prefect, MLflow; no torch, no job. Build from the root of a checkout:
#   docker build --file deploy/control.Dockerfile --tag imbik-control:0.1.0 .
FROM python:3.11.15-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/control.lock /tmp/control.lock
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-deps --requirement /tmp/control.lock

FROM python:3.11.15-slim-bookworm
# No apt-get upgrade and no unpinned package: the base image's version decides. ssh is what a Slurm cluster is reached by.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends openssh-client && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --create-home imbik && install -d -o imbik -g imbik /var/lib/prefect
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/imbik
COPY conf conf
COPY tasks tasks
COPY flows flows
COPY deploy deploy
COPY deploy/imbik /usr/local/bin/imbik
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/imbik PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false HF_HUB_DISABLE_TELEMETRY=1 PYTHONUTF8=1
# A broken image must not be built: every module of the control side imports, and torch is not among them.
RUN python -c "import importlib.util, flows.cli, flows.compress, mlflow, nemo_run, prefect_kubernetes, psycopg2, asyncpg, boto3; assert not importlib.util.find_spec('torch')"
USER 1000:1000
HEALTHCHECK CMD ["python", "-c", "import flows.cli"]
CMD ["imbik", "--help"]
