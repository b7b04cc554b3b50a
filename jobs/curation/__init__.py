"""Judging text: by rules of quality, for personal data, copies of other documents and benchmark questions."""
