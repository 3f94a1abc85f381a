"""Artifacts in, a `Page` out: everything a report says is decided here, before HTML or Markdown is written."""
