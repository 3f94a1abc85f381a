"""Hierarchical strategies in a comparison: scores by the tree against a recount, both ways beside the flat model."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
from tests.workflow.blobs import blobs

from counterpoise import ClassCounts, hierarchy
from counterpoise.core.artifacts import Comparison, Predictions
from counterpoise.core.errors import ArgumentError, ArtifactError
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.comparison.by_tree import tree_score
from counterpoise.workflow.evaluation import evaluate
from counterpoise.workflow.report import render
from counterpoise.workflow.training import RunFolder, train
from counterpoise.workflow.training.separate import _steps_per_node
from counterpoise.workflow.training.setup import build_class_tree

NAMES = ["car", "animal/dog/lab", "animal/cat", "animal/dog/pug"]
TREE = hierarchy.from_paths(NAMES)


def test_errors_are_counted_where_the_path_is_left():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=200)
    logits = rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[labels]
    seen = evaluate(Predictions(logits, labels, labels.astype(str), np.array(NAMES)))
    score = tree_score([seen, seen], TREE, ClassCounts([9, 3, 5, 1], NAMES))
    said = logits.argmax(1)
    path = [{""} | {TREE.names[n] for n in TREE.ancestors(int(leaf))} for leaf in TREE.leaves]
    for node in score.nodes:
        children = {TREE.names[c] for c in TREE.children(TREE.names.index(node.name))}
        here = [(path[a], path[b]) for a, b in zip(labels, said, strict=True) if node.name in path[a] & path[b]]
        assert node.reached == 2 * len(here)
        assert node.wrong == 2 * sum(a & children != b & children for a, b in here)
    assert [(n.name, n.depth, n.train) for n in score.nodes] == [("", 0, 18), ("animal", 1, 9), ("animal/dog", 2, 4)]
    by_level = [sum(n.wrong for n in score.nodes if n.depth == d) for d in range(3)]
    assert sum(by_level) == 2 * (labels != said).sum()
    reached = [sum(n.reached for n in score.nodes if n.depth == d) for d in range(3)]
    assert score.level_error == pytest.approx([w / r for w, r in zip(by_level, reached, strict=True)])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("tree") / "out"
    asked = ("hierarchical", "hierarchical-separate", "adaptive-weights")
    return compare(blobs(), strategies=asked, seeds=2, epochs=4, out=out), out


def test_a_comparison_has_the_tree_and_scores_by_it_for_every_strategy(compared):
    comparison, out = compared
    assert Comparison.load(out / "comparison.json") == comparison
    assert comparison.tree["classes"] == ["common", "rare", "rarest"]
    for arm in comparison.arms:
        assert arm.status == "done", arm.error
        assert arm.by_tree is not None
        assert arm.by_tree.nodes[0].reached == 2 * 30
        assert arm.by_tree.nodes[0].train == 54
    weights = {arm.strategy.name: arm.weights for arm in comparison.arms}
    assert np.array(weights["adaptive-weights"]).shape == (2, 4, 3)
    assert weights["baseline"] == ((), ())


def test_the_page_shows_the_tree_and_the_weights(compared, tmp_path):
    comparison, _ = compared
    page = render(comparison, tmp_path / "r.html").read_text("utf-8")
    for words in ("Class tree<", "Error at level 1", "all classes", "Class weights of adaptive-weights", "of 60"):
        assert words in page
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', page[page.index("Errors by node") :], re.S)
    names = [re.sub(r"<[^>]*>", "", row).strip("\u2003 \n") for row in rows]
    assert names[:5] == ["all classes", "common", "rare, rarest", "rare", "rarest"]
    flat = dataclasses.replace(
        comparison, tree={}, arms=tuple(dataclasses.replace(a, by_tree=None, weights=()) for a in comparison.arms)
    )
    assert "Class tree<" not in render(flat, tmp_path / "f.html").read_text("utf-8")


def test_separate_models_share_the_budget_and_leave_their_weights(compared):
    comparison, out = compared
    arm = next(arm for arm in comparison.arms if arm.strategy.separate)
    folder = RunFolder(out / arm.directories[0])
    assert folder.read_run().steps == 8
    names = {name.split(".")[0] for name in folder.read_tensors("model.safetensors")[0]}
    assert names == {"node0", "node1"} or names == {"node0", "node2"}
    assert [row["step"] for row in folder.read_history()][-1] == 8
    assert folder.read_history()[-1]["val_balanced_accuracy"] is not None


def test_a_probability_of_a_run_is_that_of_its_path(compared):
    comparison, out = compared
    for arm in comparison.arms:
        if arm.strategy.head == "hierarchical":
            logits = Predictions.load(out / arm.directories[0] / "predictions-test.npz").logits.astype(float)
            np.testing.assert_allclose(np.exp(logits).sum(1), 1.0, atol=1e-5)


@pytest.mark.fault("C7")
def test_separate_models_interrupted_between_nodes_go_on_bit_by_bit(dataset, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(done, total):
        if done == 7:
            raise Interrupted

    train("hierarchical-separate", dataset, epochs=4, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("hierarchical-separate", dataset, epochs=4, out=tmp_path / "parts", progress=stop)
    run = train("hierarchical-separate", dataset, epochs=4, out=tmp_path / "parts", resume=True)
    assert run.starts[0] == 0 < run.starts[1]
    whole, parts = (Predictions.load(tmp_path / p / "predictions-test.npz").logits for p in ("whole", "parts"))
    np.testing.assert_array_equal(whole, parts)


def test_steps_are_dealt_out_whole():
    assert _steps_per_node(10, [60, 30, 10]) == [5, 3, 2]
    for steps, images in ((78 * 15, [9926, 5000, 4926, 70]), (4, [5, 3]), (100, [1, 1, 1, 997])):
        dealt = _steps_per_node(steps, images)
        assert sum(dealt) == steps
        assert min(dealt) >= 1


@pytest.mark.fault("H4")
def test_the_tree_may_be_written_down_or_grown_from_confusions(dataset, tmp_path):
    file = tmp_path / "tree.yaml"
    file.write_text("few: [rarest, rare]\ncommon:\n")
    run = train("hierarchical", dataset, epochs=1, tree=str(file), out=tmp_path / "a")
    assert dict(run.tree["links"])["rarest"] == "few"
    assert run.tree["classes"] == ["common", "rare", "rarest"]
    assert str(tmp_path) not in (tmp_path / "a" / "run.json").read_text()
    grown = train(
        "hierarchical", dataset, epochs=1, tree=str(tmp_path / "a" / "predictions-val.npz"), out=tmp_path / "b"
    )
    assert set(grown.tree["classes"]) == set(run.tree["classes"])
    with pytest.raises(ArtifactError, match="holds another run: its tree has links"):
        train("hierarchical", dataset, epochs=1, tree="balanced", out=tmp_path / "a", resume=True)


@pytest.mark.fault("H2")
def test_a_tree_that_does_not_fit_is_named_before_anything_is_written(dataset, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"few": ["rarest", "rare"], "comon": None}))
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for tree, message in (
        (str(tmp_path / "t.json"), "'common'.*must be in the tree"),
        (str(tmp_path / "nowhere.yaml"), "`tree` .*nowhere.yaml does not exist"),
        (str(tmp_path / "folder.yaml"), "`tree` .*folder.yaml is not a file; name a file"),
        (str(tmp_path / "pipe.csv"), "`tree` .*pipe.csv is not a file; name a file"),
        (str(tmp_path / ("n" * 300 + ".json")), "`tree` .*nnn.json cannot be read: File name too long"),
        (str(tmp_path / "t.json" / "t.yaml"), "`tree` .*t.yaml cannot be read: Not a directory"),
        ("sideways", "`tree` must be auto, folders, balanced, or a .*; got 'sideways'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            train("hierarchical", dataset, epochs=1, tree=tree, out=tmp_path / "out")
        with pytest.raises(ArgumentError, match=message):
            compare(dataset, strategies=["hierarchical"], tree=tree, out=tmp_path / "out")
        assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".csv"])
def test_the_file_of_a_tree_is_named_once(suffix, tmp_path):
    file = tmp_path / f"t{suffix}"
    for text in ('{"few": ["rarest"', "child,parent\nfew,\nrarest,few\n", '{"few": ["rarest"]}'):
        file.write_text(text)
        with pytest.raises(ArgumentError, match=r"^`tree` .*t\.") as caught:
            build_class_tree(str(file), ClassCounts({"rare": 5, "rarest": 1}))
        assert str(caught.value).count(file.name) == 1


@pytest.mark.fault("H4")
def test_predictions_with_the_classes_in_another_order_are_no_source_of_a_tree(dataset, tmp_path):
    names = np.array(["rare", "common", "rarest"])
    Predictions(np.eye(3), np.arange(3), names, names).save(tmp_path / "p.npz")
    with pytest.raises(ArgumentError, match=r"p\.npz.*other classes than the dataset, or the same in another order"):
        train("hierarchical", dataset, epochs=1, tree=str(tmp_path / "p.npz"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
