#!/usr/bin/env bash
# backup.sh TO STORE: the databases of Prefect and MLflow, the digests of every artifact's record, and the runs' reports, in TO/<time>.
# PGHOST, PGPORT, PGUSER and PGPASSWORD as psql reads them; KEEP (14) is how many backups stay. Artifacts themselves are large, never
# change and are copied by whatever copies files: rsync, snapshots, the bucket's replication.
set -euo pipefail
umask 077
to=$1 store=$2
now=$(date -u +%Y%m%dT%H%M%SZ)
partial=$to/.partial-$now
rm -rf "$to"/.partial-*
mkdir -p "$partial"
for database in prefect mlflow mlflow_auth; do
    pg_dump --no-password --format=custom --file="$partial/$database.dump" "$database"
done
(cd "$store" && find . -mindepth 3 -maxdepth 3 -name artifact.json -not -path './.work/*' -print0 | sort -z | xargs -0 -r sha256sum) \
    >"$partial/artifacts.sha256"
tar -C "$store" --create --gzip --file="$partial/runs.tar.gz" --ignore-failed-read runs
(cd "$partial" && sha256sum ./*.dump artifacts.sha256 runs.tar.gz >SHA256SUMS)
sync "$partial"/*
mv "$partial" "$to/$now" # a backup is there whole or not at all
find "$to" -mindepth 1 -maxdepth 1 -name '2*Z' | sort -r | tail -n "+$((${KEEP:-14} + 1))" | xargs -r rm -rf
echo "$to/$now"
