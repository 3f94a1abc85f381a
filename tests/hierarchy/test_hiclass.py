"""HiClass as the independent reference: the same per-node classifiers decide alike, and its F1 is ours."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise import hierarchy, metrics
from counterpoise.hierarchy import from_paths

pytest.importorskip("hiclass")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def test_greedy_and_f1_are_those_of_hiclass() -> None:
    from hiclass import LocalClassifierPerParentNode
    from hiclass.metrics import f1
    from sklearn.linear_model import LogisticRegression

    names = ["a/x", "a/y", "a/z", "b/u", "b/v", "b/w"]
    tree, rng = from_paths(names), np.random.default_rng(0)
    y = rng.integers(0, 6, 300)
    x = rng.normal(size=(6, 4))[y] + rng.normal(size=(300, 4))
    paths = np.array([[name[0], name] for name in names])[y]
    model = LocalClassifierPerParentNode(local_classifier=LogisticRegression()).fit(x, paths)
    logits = np.zeros((300, tree.num_edges))
    for node in np.unique(tree.parents[1:]):
        local = LogisticRegression()
        inside = np.array([node in (0, *tree.ancestors(leaf)) for leaf in tree.leaves])[y]
        local.fit(x[inside], paths[inside, tree.depth[node]])
        column = {name: k for k, name in enumerate(local.classes_)}
        order = [column[tree.names[child]] for child in tree.children(node)]
        logits[:, tree.children(node) - 1] = local.predict_log_proba(x)[:, order]
    theirs, ours = model.predict(x), hierarchy.greedy(logits, tree)
    assert [names[c] for c in ours] == theirs[:, 1].tolist()
    assert 0 < (ours != y).sum() < 300
    assert metrics.hierarchical_f1(y, ours, tree=tree) == pytest.approx(f1(paths, theirs))
