#!/bin/bash
export IMBIK_ARRAY_RANK=${JOB_COMPLETION_INDEX:?}
exec python -m jobs.curate --spec /store/.work/curate-0123/spec.json >>/store/.work/curate-0123/job.log 2>&1
