#!/usr/bin/env bash
# restore.sh FROM STORE: puts the databases of one backup in the place of those that are there, brings back runs that the store lacks,
# and says which artifacts of the backup the store does not have. Stop Prefect, MLflow and the workers first. PGUSER must be the
# superuser; the roles prefect and mlflow must exist (postgres-init.sh).
set -euo pipefail
from=$1 store=$2
(cd "$from" && sha256sum --quiet --check SHA256SUMS) || {
    echo "restore: $from is damaged or not whole; choose another backup" >&2
    exit 1
}
for database in prefect:prefect mlflow:mlflow mlflow_auth:mlflow; do
    name=${database%:*} owner=${database#*:}
    dropdb --no-password --if-exists --force "$name"
    createdb --no-password --owner="$owner" "$name"
    pg_restore --no-password --exit-on-error --no-owner --role="$owner" --dbname="$name" "$from/$name.dump"
    psql --no-password --no-psqlrc --quiet --dbname=postgres \
        --command="REVOKE CONNECT ON DATABASE $name FROM PUBLIC; GRANT CONNECT ON DATABASE $name TO $owner"
done
mkdir -p "$store"
tar -C "$store" --extract --gzip --skip-old-files --file="$from/runs.tar.gz"
if ! (cd "$store" && sha256sum --quiet --check "$(realpath "$from")/artifacts.sha256"); then
    echo "restore: the databases are back, but the store lacks the artifacts above; copy them back, or run their recipes again" >&2
    exit 3
fi
echo "restore: databases, runs and $(wc -l <"$from/artifacts.sha256") artifacts are as they were in $from"
