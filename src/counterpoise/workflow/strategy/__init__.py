"""The catalog of strategies, and `plan`, which chooses from it for a dataset."""

from counterpoise.workflow.strategy.catalog import CATALOG, as_strategy, split_strategies, strategy_named
from counterpoise.workflow.strategy.planning import plan

__all__ = ["CATALOG", "as_strategy", "plan", "split_strategies", "strategy_named"]
