"""The commands of `imbik`, a module a group; `flows.cli` puts them together. Heavy imports wait until a command needs
them."""
