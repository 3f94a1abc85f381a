"""Which strategies to try on this dataset, and why: `plan` and the catalog."""

from counterpoise.workflow.strategy.catalog import CATALOG, strategy_named
from counterpoise.workflow.strategy.planning import plan

__all__ = ["CATALOG", "plan", "strategy_named"]
