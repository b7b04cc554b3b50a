#!/bin/bash
log=/store/.work/distill-0123/job.log; [ "${PET_NODE_RANK:-0}" = 0 ] || log=/store/.work/distill-0123/script.log  # the first pod writes the log, the others one beside it
exec torchrun --tee 3 -m jobs.distill --spec /store/.work/distill-0123/spec.json >>"$log" 2>&1
