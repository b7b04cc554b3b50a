"""From whatever holds text to documents, and from documents to token ids; what is kept and what is set aside is counted
here."""
