"""The class tree: its faults, its laws, and decoding, loss and metrics by it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.cluster.hierarchy import linkage

from counterpoise import hierarchy, losses, metrics, models
from counterpoise.core.confusion import ConfusionMatrix
from counterpoise.core.errors import ArgumentError
from counterpoise.hierarchy import ClassTree, from_csv, from_links, from_paths

# animal: (dog: (pug, lab), cat); car
NAMES = ["car", "animal/dog/lab", "animal/cat", "animal/dog/pug"]
TREE = from_paths(NAMES)


@pytest.mark.fault("H1")
def test_cycles_and_second_parents_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="cycle: b -> c -> b"):
        from_links({"x": None, "b": "c", "c": "b"})
    with pytest.raises(ArgumentError, match="cycle: b -> b"):
        from_links({"x": None, "b": "b"})
    (tmp_path / "t.csv").write_text("child,parent\na,\nb,\nx,a\nx,b\n")
    with pytest.raises(ArgumentError, match="'x' has two parents, 'a' and 'b'"):
        from_csv(tmp_path / "t.csv")


@pytest.mark.fault("H2")
def test_what_does_not_fit_the_classes_is_named() -> None:
    links = {"a": None, "x": "a", "y": "a"}
    with pytest.raises(ArgumentError, match="unknown parents"):
        from_links({**links, "z": "q"})
    for classes, what in (
        (["x", "y", "w"], "'w'.*must be in the tree"),
        (["x"], "lacks the leaves.*'y'"),
        (["x", "y", "a"], "inner"),
        (["x", "y", "x"], "`classes` must be distinct"),
    ):
        with pytest.raises(ArgumentError, match=what):
            from_links(links, classes=classes)


@pytest.mark.fault("H3")
def test_chains_flat_ragged_wide_and_deep_trees() -> None:
    assert from_paths(["x", "y"]).depth.max() == 1
    chain = from_links({"a": None, "b": "a", "c": "b"})
    assert hierarchy.leaf_log_probabilities([[1.0, 2.0, 3.0]], chain) == 0.0
    wide = from_links({f"n{i}": f"n{(i - 1) // 2}" if i else None for i in range(100_000)})
    assert wide.num_edges == 100_000
    deep = from_links({f"n{i}": f"n{i - 1}" if i else None for i in range(10_000)})
    assert deep.depth.max() == 10_000
    assert deep.draw().endswith("n9999")
    assert ClassTree.from_dict(json.loads(json.dumps(deep.to_dict()))).names == deep.names
    for tree in (wide, deep):
        logits = np.random.default_rng(0).normal(size=(2, tree.num_edges))
        leaves = np.exp(hierarchy.leaf_log_probabilities(logits, tree))
        np.testing.assert_allclose(leaves.sum(1), 1.0)
        np.testing.assert_allclose(hierarchy.node_probabilities(leaves, tree)[:, 0], 1.0)
        assert (hierarchy.best_path(logits, tree) == leaves.argmax(1)).all()
        way = hierarchy.greedy(logits, tree)  # no sibling on the way has a larger logit
        for row, node in enumerate(tree.leaves[way]):
            chain = tree.ancestors(node)
            for step in chain[chain > 0][:50]:
                siblings = tree.children(tree.parents[step])
                assert logits[row, step - 1] == logits[row, siblings - 1].max()
        assert (hierarchy.back_off(leaves, tree, threshold=1.0 + 0.0) >= 0).all()


@pytest.mark.fault("H4")
def test_classes_are_matched_by_name() -> None:
    assert TREE.classes == tuple(NAMES)
    named = losses.HierarchicalLoss(
        tree=TREE,
        class_counts={"animal/cat": 3, "car": 1, "animal/dog/pug": 4, "animal/dog/lab": 2},
        balance="weighted",
    )
    ordered = losses.HierarchicalLoss(tree=TREE, class_counts=[1, 2, 3, 4], balance="weighted")
    assert torch.equal(named.weight, ordered.weight)


@pytest.mark.fault("H5")
def test_a_parent_is_the_sum_of_its_children() -> None:
    logits = np.random.default_rng(0).normal(size=(20, TREE.num_edges)) * 3
    nodes = hierarchy.node_probabilities(np.exp(hierarchy.leaf_log_probabilities(logits, TREE)), TREE)
    for node in set(TREE.parents[1:].tolist()):
        assert nodes[:, node] == pytest.approx(nodes[:, TREE.children(node)].sum(1), abs=1e-6)
    assert nodes[:, 0] == pytest.approx(np.ones(20), abs=1e-6)
    ours = models.leaf_log_probabilities(torch.tensor(logits), TREE).numpy()
    assert ours == pytest.approx(hierarchy.leaf_log_probabilities(logits, TREE))


@pytest.mark.fault("H6")
@pytest.mark.parametrize("balance", ["plain", "weighted", "logit-adjusted"])
def test_an_absent_branch_costs_nothing(balance: str) -> None:
    z = torch.randn(3, TREE.num_edges, requires_grad=True)
    loss = losses.hierarchical_loss(z, torch.tensor([0, 2, 0]), tree=TREE, class_counts=[5, 0, 5, 0], balance=balance)
    loss.backward()
    dogs = TREE.children(TREE.names.index("animal/dog")) - 1
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert not z.grad[:, dogs].any()


@pytest.mark.parametrize("balance", ["plain", "weighted", "logit-adjusted"])
def test_the_loss_is_the_sum_of_the_nodes_softmax_losses(balance: str) -> None:
    torch.manual_seed(0)
    z, y, counts = torch.randn(9, TREE.num_edges, dtype=torch.float64), torch.arange(9) % 4, [50, 3, 20, 10]
    below, expected = TREE.node_counts(counts), torch.zeros((), dtype=torch.float64)
    for node in np.unique(TREE.parents[1:]):
        children = TREE.children(node)
        slot = torch.full((4,), -100)
        for c, leaf in enumerate(TREE.leaves):
            for k, child in enumerate(children):
                slot[c] = k if child in TREE.ancestors(leaf) else slot[c]
        n = below[children] / below[node]
        own = {"plain": {}, "weighted": {"weight": 1 / (n * len(n))}, "logit-adjusted": {"offset": np.log(n)}}[balance]
        expected += losses.softmax_loss(z[:, children - 1], slot[y], reduction="sum", **own)
    ours = losses.hierarchical_loss(z, y, tree=TREE, class_counts=counts, balance=balance)
    assert ours.item() == pytest.approx(expected.item() / 9)


def test_a_row_of_weight_two_is_a_row_twice() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(4, TREE.num_edges, dtype=torch.float64), torch.tensor([0, 1, -100, 3])
    u, twice = torch.tensor([1.0, 2.0, 5.0, 0.0]), [0, 1, 1, 2]
    for reduction in ("sum", "mean"):
        ours = losses.hierarchical_loss(z, y, tree=TREE, sample_weight=u, reduction=reduction)
        torch.testing.assert_close(ours, losses.hierarchical_loss(z[twice], y[twice], tree=TREE, reduction=reduction))
    rows = losses.hierarchical_loss(z, y, tree=TREE, sample_weight=u, reduction="none")
    torch.testing.assert_close(
        losses.hierarchical_loss(z, y, tree=TREE, sample_weight=u, reduction="batchmean"), rows.sum() / 3
    )
    with pytest.raises(ArgumentError, match="`sample_weight` must be finite and at least 0; row 1"):
        losses.hierarchical_loss(z, y, tree=TREE, sample_weight=[1.0, -1.0, 1.0, 1.0])
    ignored = losses.hierarchical_loss(z.requires_grad_(), torch.full((4,), -100), tree=TREE)
    ignored.backward()
    assert ignored == 0
    assert not z.grad.any()


def test_decoding_by_hand() -> None:
    tree = from_paths(["a/x", "a/y", "b"])  # edges: a, b, a/x, a/y
    z = np.log([[0.6, 0.4, 0.5, 0.5], [0.3, 0.7, 0.9, 0.1]])
    assert np.exp(hierarchy.leaf_log_probabilities(z, tree)) == pytest.approx(
        np.array([[0.3, 0.3, 0.4], [0.27, 0.03, 0.7]])
    )
    assert hierarchy.greedy(z, tree).tolist() == [0, 2]
    assert hierarchy.best_path(z, tree).tolist() == [2, 2]
    assert [tree.names[v] for v in hierarchy.back_off([[0.4, 0.3, 0.3], [0.4, 0.1, 0.5]], tree, threshold=0.5)] == [
        "a",
        "b",
    ]


def test_metrics_by_hand() -> None:
    labels, predictions = [1, 1, 2, 0], [3, 2, 2, 1]  # lab→pug shares 2 of 3, lab→cat 1, cat 2 of 2, car→lab 0 of 1
    assert metrics.hierarchical_precision(labels, predictions, tree=TREE) == 5 / 10
    assert metrics.hierarchical_recall(labels, predictions, tree=TREE) == 5 / 9
    assert metrics.hierarchical_f1(labels, predictions, tree=TREE) == pytest.approx(10 / 19)
    assert metrics.level_accuracy(labels, predictions, tree=TREE).tolist() == [3 / 4, 2 / 3, 0.0]
    assert metrics.error_by_level(labels, predictions, tree=TREE).tolist() == [1 / 4, 1 / 3, 1.0]
    assert metrics.mean_tree_distance(labels, predictions, tree=TREE) == pytest.approx((2 + 3 + 4) / 3)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("animal: [dog, cat]\ncar:\n", {"animal": "", "car": "", "dog": "animal", "cat": "animal"}),
        ("no: [cat, dog]\non: ~\n", {"no": "", "on": "", "cat": "no", "dog": "no"}),
        ("a: [007, 1e5, 0x10, null, true]\n", {"a": "", "007": "a", "1e5": "a", "0x10": "a", "null": "a", "true": "a"}),
        ("yes: no\n'null': 'null '\n", {"yes": "", "null": "", "no": "yes", "null ": "null"}),
        ("- animal: [dog]\n- car\n", {"animal": "", "car": "", "dog": "animal"}),
    ],
)
def test_names_in_yaml_are_the_text_of_the_file(text: str, links: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    tree = hierarchy.from_yaml(file)
    found = {name: tree.names[above] for name, above in zip(tree.names[1:], tree.parents[1:], strict=True)}
    assert found == links


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.mark.fault("R7")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "no aliases and no tags.*line 2"),
        ("a: &a [*a]\n", "no aliases and no tags"),
        ("a: !!python/object/apply:os.system [true]\n", "no aliases and no tags"),
        ("animal: [dog]\nanimal: [cat]\n", "'animal' twice"),
        ("a: [b, b]\n", "'b' is twice below 'a'"),
        ("a: {b: {c: {d: [e]}, c: }}\n", "'c' twice"),
        ("[" * 100_000, "nests too deeply"),
        ("- " * 50_000, "nests too deeply"),
        ("{a: " * 50_000, "nests too deeply"),
        ("{a: " * 100 + "b" + "}" * 100, "two parents"),
        ("cat: 500\ndog: 20\n", "500 is not a name; write \\[500\\]"),
        ("cat: true\n", "true is not a name"),
        ("a: [[b, c]]\n", "got list below 'a'"),
        ("a: [b, ]\n- c\n", "cannot be read as YAML"),
        ("a:\n- \n", "child without a name"),
        ("? [a, b]\n: c\n", "expected a scalar"),
        ("a: [b]\n---\nc: [d]\n", "single document"),
        ('a: ["\\UFFFFFFFF"]\n', "cannot be read as YAML"),
        ("a: [\x07]\n", "not allowed"),
        ("other.yaml\n", "t.yaml must hold a mapping.* got 'other.yaml'"),
        ("", "t.yaml must hold a mapping.* got None"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_yaml_that_is_no_tree_is_refused_at_once(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("a: [b, c]\n")
    (tmp_path / "t.yaml").write_text(text)
    start = time.perf_counter()
    with pytest.raises(ArgumentError, match=message):
        hierarchy.from_yaml(tmp_path / "t.yaml")
    assert time.perf_counter() - start < 5


@pytest.mark.fault("D23")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' * 100_000, "t.json cannot be read as JSON: .*recursion"),
        ('{"a": ["b"], "a": ["c"]}', "'a' twice"),
        ('{"a": ["b", "b"]}', "'b' is twice below 'a'"),
        ('{"a": [NaN]}', "NaN"),
        ('{"a": [' + "1" * 5_000 + "]}", "t.json cannot be read as JSON"),
        ('{"a": [true]}', "got bool below 'a'"),
        ('{"a": [1.0]}', "got float below 'a'"),
        ('{"a": [null]}', "got NoneType below 'a'"),
        ('{"a": [["b"]]}', "got list below 'a'"),
        ('{"a": 500}', "got 500 below 'a'"),
        ('"other.json"', "t.json must hold a mapping.* got 'other.json'"),
        ("null", "t.json must hold a mapping.* got None"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_json_that_is_no_tree_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"a": ["b", "c"]}')
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ArgumentError, match=message):
        hierarchy.from_json(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{b: [c]", "cannot be read as YAML"),
        ("b: 5", "cannot be read as YAML: 5 is not a name"),
        ("b: [[c]]", "got list below 'b'"),
        ("b", "must hold a mapping"),
        ("b: [c]", "must be leaves"),
        ("b: [c, c]", "'c' is twice"),
    ],
)
def test_an_error_in_a_file_names_the_file_once(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(ArgumentError, match=rf"^{file}:? .*{message}") as caught:
        hierarchy.from_yaml(file, classes=["b"])
    assert str(caught.value).count("t.yaml") == 1


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "warm: [yelow, red]\nblue:\n",
            r"t\.yaml: `classes` 'yellow' must .*; it has 'yelow' where the class is 'yellow'; w",
        ),
        ("warm: [Yellow, red]\nblu:\n", "it has 'blu' where the class is 'blue', 'Yellow' where the class is 'yellow'"),
        ("warm: [sun, red]\nblue:\n", "'yellow' must be in the tree; add a link to the parent of each"),
        (
            "warm: [yellow, red]\nblue:\ncold: [ice]\n",
            "the leaves 'ice' of the tree; .*`keep_empty_classes=True` keeps a",
        ),
    ],
)
def test_a_misspelt_class_is_named_with_the_leaf_that_is_like_it(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ArgumentError, match=message):
        hierarchy.from_yaml(tmp_path / "t.yaml", classes=["blue", "red", "yellow"])


def test_a_class_above_another_class_says_how_both_can_be_in_a_tree(tmp_path: Path) -> None:
    classes = ["animal", "animal/cat", "animal/dog", "car"]
    with pytest.raises(ArgumentError, match=r"'animal' must be a leaf, .* but 'animal/cat' is below it") as caught:
        from_paths(classes)
    assert "such as animal/other" in str(caught.value)
    line = str(caught.value).partition("as leaves: ")[2]
    assert line == "any animal: [animal, animal/cat, animal/dog]"
    (tmp_path / "t.yaml").write_text(f"{line}\ncar:\n")
    assert hierarchy.from_yaml(tmp_path / "t.yaml", classes=classes).depth[1:].tolist() == [1, 1, 2, 2, 2]
    assert from_paths([*classes[1:], "animal/other"]).depth.max() == 2


def test_the_message_about_a_long_number_is_short(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(f"cat: {'9' * 5000}\n")
    with pytest.raises(ArgumentError, match=r"t\.yaml cannot be read as YAML: 9{80} is not a name") as caught:
        hierarchy.from_yaml(tmp_path / "t.yaml")
    assert len(str(caught.value)) < 1000


def test_the_message_about_many_classes_is_short() -> None:
    with pytest.raises(ArgumentError, match="'9' and 999990 more must be in the tree") as caught:
        from_links({"a": None}, classes=[str(i) for i in range(1_000_000)])
    assert len(str(caught.value)) < 200


def test_yaml_with_many_classes_is_read_as_fast_as_json(tmp_path: Path) -> None:
    groups = {f"group {i}": [f"class {i}.{j}" for j in range(100)] for i in range(200)}
    (tmp_path / "t.json").write_text(json.dumps(groups))
    (tmp_path / "t.yaml").write_text(
        "".join(f"{k}:\n" + "".join(f"  - {v}\n" for v in names) for k, names in groups.items())
    )
    seconds = {}
    for reader, name in ((hierarchy.from_json, "t.json"), (hierarchy.from_yaml, "t.yaml")):
        start = time.process_time()
        tree = reader(tmp_path / name)
        seconds[name] = time.process_time() - start
        assert (tree.num_classes, tree.num_edges) == (20_000, 20_200)
    assert seconds["t.yaml"] < 5 * seconds["t.json"] + 0.2 or not yaml.__with_libyaml__


def test_yaml_is_read_without_libyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.yaml").write_text("no: [cat, '5']\ncar: ~\n")
    fast = hierarchy.from_yaml(tmp_path / "t.yaml")
    monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    assert hierarchy.from_yaml(tmp_path / "t.yaml").names == fast.names == ("", "no", "car", "cat", "5")


def test_whole_numbers_in_json_are_names(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"even": [0, 2], "odd": [1]}')
    assert hierarchy.from_json(tmp_path / "t.json", classes=["0", "1", "2"]).classes == ("0", "1", "2")


@pytest.mark.parametrize(("reader", "name"), [(hierarchy.from_json, "t.json"), (hierarchy.from_yaml, "t.yaml")])
def test_a_folder_a_missing_and_a_huge_file_are_named(reader, name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=rf"{name}.*(does not exist|No such file)"):
        reader(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ArgumentError, match=rf"{name} cannot be read as .*: Is a directory"):
        reader(tmp_path / name)
    (tmp_path / name).rmdir()
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**31)  # a sparse file
    with pytest.raises(ArgumentError, match=rf"{name} cannot be read as .*: it has more than"):
        reader(tmp_path / name)


def test_files_that_cannot_be_parsed_are_named(tmp_path: Path) -> None:
    for name, text, reader in (
        ("t.json", '{"animal": [', hierarchy.from_json),
        ("t.yaml", "animal: [cat, dog", hierarchy.from_yaml),
        ("t.csv", 'child,parent\n"dog,animal\n', hierarchy.from_csv),
        ("t.csv", "child,above\ndog,animal\n", hierarchy.from_csv),
    ):
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ArgumentError, match=rf"{name}.? (cannot be read as|line 2|lacks the column `parent`)"):
            reader(tmp_path / name)


def test_balanced_splits_evenly() -> None:
    tree = hierarchy.balanced({"a": 8, "b": 4, "c": 2, "d": 2})
    assert tree.node_counts([8, 4, 2, 2])[tree.children(0)].tolist() == [8, 8]


def test_the_torch_loss_of_uniform_logits_is_by_hand() -> None:
    value = losses.hierarchical_loss(torch.zeros(1, TREE.num_edges), torch.tensor([1]), tree=TREE)
    assert value.item() == pytest.approx(3 * math.log(2))


@pytest.mark.parametrize("size", [2, 3, 30])
def test_a_sparse_confusion_matrix_gives_the_tree_of_the_dense_one(size):
    rng = np.random.default_rng(size)
    dense = rng.integers(0, 4, (size, size)) * rng.integers(0, 2, (size, size))
    names = [f"c{i}" for i in range(size)]
    sparse = hierarchy.from_confusion(ConfusionMatrix.from_dense(dense), names)
    assert sparse.to_dict() == hierarchy.from_confusion(dense, names).to_dict()
    rate = dense / np.maximum(dense.sum(1, keepdims=True), 1.0)
    joined = linkage(2.0 - (rate + rate.T)[np.triu_indices(size, 1)], "average")
    parents = dict(sparse.to_dict()["links"])
    assert len({parents[names[int(i)]] for i in joined[0, :2]}) == 1
    with pytest.raises(ArgumentError, match=rf"`matrix` must be .*of shape \({size + 1}, {size + 1}\)"):
        hierarchy.from_confusion(ConfusionMatrix.from_dense(dense), [*names, "more"])
