"""Audit a dataset: `audit` returns an `AuditResult` with counts, imbalance and findings."""

from counterpoise.workflow.audit.auditing import audit

__all__ = ["audit"]
