"""audit: a dataset → `AuditResult`: facts, not advice."""

from counterpoise.workflow.audit.auditing import audit

__all__ = ["audit"]
