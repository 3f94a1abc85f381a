"""Adapters for other frameworks: one file each, imported by nobody here, loaded when asked for."""
