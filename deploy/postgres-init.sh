#!/usr/bin/env bash
# Makes the roles and databases of Prefect and MLflow in an empty PostgreSQL. Passwords come from the environment and pass through no
# command line; POSTGRES_USER, PGHOST and the like are read by psql itself.
set -euo pipefail
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv prefect_password PREFECT_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_auth FROM PUBLIC;
GRANT CONNECT ON DATABASE prefect TO prefect;
GRANT CONNECT ON DATABASE mlflow, mlflow_auth TO mlflow;
SQL
