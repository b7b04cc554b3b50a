"""Removing text that must not be learned: benchmark questions and copies of other documents."""
