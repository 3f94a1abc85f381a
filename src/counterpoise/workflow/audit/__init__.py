"""Audit a dataset: `audit` returns an `AuditResult` with counts, imbalance and findings."""

from counterpoise.workflow.audit.auditing import audit, warn_of_errors

__all__ = ["audit", "warn_of_errors"]
