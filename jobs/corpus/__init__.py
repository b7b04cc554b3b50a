"""Documents from any source of text, and token ids from documents; counts what is kept and what is set aside."""
