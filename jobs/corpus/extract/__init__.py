"""Text from web pages, web archives and PDF files: each file is a document or has a reason why not; its parser runs in
a process of its own, bounded in time and memory."""
