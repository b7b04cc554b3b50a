"""Scaling laws over models of several sizes and training lengths: forms, the back-test that chooses one of them, and
the answers that it supports."""
