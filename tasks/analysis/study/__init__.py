"""What a study decides: which points are tried next, what each key does, and whether the best one is better."""
