# The GPU side: the jobs, and the flows for a machine that runs both. NVIDIA's image keeps its PyTorch, CUDA, Transformer Engine and
# Megatron-Core; imbik's packages, ModelOpt among them, lie over it in an environment of their own. Build from the root of a checkout:
#   docker build --file deploy/worker.Dockerfile --tag imbik-worker:0.1.0 .
# 26.06 is the NeMo release around Megatron-Core 0.18.0 and Python 3.12. Its ModelOpt, 0.44.0, has another Minitron than the one the jobs
# call, hence 0.46.0 over it. That pair was run on CPUs, as was 26.04's Megatron-Core, 0.17.0. --build-arg BASE=nvcr.io/nvidia/nemo:TAG
ARG BASE=nvcr.io/nvidia/nemo:26.06
# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/worker.lock /opt/imbik/worker.lock
# The image's own python keeps every package it came with; the overlay sees them and adds or shadows what worker.lock names. The image
# lists what it is built around in constraints of its own (PIP_CONSTRAINT), which are not ours.
RUN python3 -m venv --system-site-packages /opt/imbik/venv \
    && env --unset=PIP_CONSTRAINT /opt/imbik/venv/bin/pip install --no-deps --requirement /opt/imbik/worker.lock
WORKDIR /opt/imbik
COPY conf conf
COPY tasks tasks
COPY flows flows
COPY jobs jobs
COPY deploy/imports.py deploy/imports.py
COPY deploy/imbik /usr/local/bin/imbik
ENV PATH=/opt/imbik/venv/bin:$PATH PYTHONPATH=/opt/imbik PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DO_NOT_TRACK=true \
    MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false HF_HUB_DISABLE_TELEMETRY=1 PYTHONUTF8=1
# A broken image must not be built: the jobs' libraries import together, those that they import in functions too, and torch is the one that
# came with the image.
RUN python -c "import torch, megatron.core, modelopt.torch.prune, transformer_engine, transformers, lm_eval, datasets; assert torch.version.cuda and not torch.__file__.startswith('/opt/imbik')" \
    && python -c "import pkgutil, importlib, jobs; [importlib.import_module(one.name) for one in pkgutil.walk_packages(jobs.__path__, jobs.) if not one.name.endswith(forkserver)]" \
    && python deploy/imports.py \
    && (id --user imbik || useradd --non-unique --uid 1000 --create-home imbik)
USER 1000
HEALTHCHECK CMD ["python", "-c", "import torch; assert torch.cuda.is_available()"]
CMD ["imbik", "doctor"]
