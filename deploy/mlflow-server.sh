#!/usr/bin/env bash
# MLflow's server with a login: backend and users on PostgreSQL, artifacts through the server itself, so that only it holds the
# bucket's keys. Reads MLFLOW_DATABASE (a URL), MLFLOW_BUCKET, MLFLOW_BIND and MLFLOW_PORT.
set -euo pipefail
umask 077
here=$(dirname "$(realpath "$0")")
settings=$(mktemp)
template=$(<"$here/mlflow-auth.ini")
printf '%s\n' "${template//@DATABASE@/${MLFLOW_DATABASE}_auth}" >"$settings"
export MLFLOW_AUTH_CONFIG_PATH=$settings MLFLOW_BACKEND_STORE_URI=$MLFLOW_DATABASE
exec mlflow server --app-name basic-auth --host "${MLFLOW_BIND:-127.0.0.1}" --port "${MLFLOW_PORT:-5000}" --workers "${MLFLOW_WORKERS:-2}" \
    --artifacts-destination "s3://$MLFLOW_BUCKET"
