"""The commands of `imbik`, one module per group, assembled in `flows.cli`. Heavy imports are deferred until a command
needs them."""
