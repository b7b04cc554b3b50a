"""Programs for the interpreters of inference engines, which have none of imbik's packages."""
