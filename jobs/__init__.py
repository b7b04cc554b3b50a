"""The programs that run on workers, one per stage: `python -m jobs.<stage> --spec spec.json`. They return files and an
exit code."""
