"""The Trainer of Hugging Face with our losses, samplers and metrics, against one step computed by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

pytest.importorskip("transformers")

from tests.integrations.trainer_runs import (
    COUNTS,
    EPOCHS,
    STOPPED,
    WEIGHT,
    Linear,
    Points,
    arguments,
    multilabel_loss,
    sampler_of_points,
    trained,
    trainer,
)
from transformers import Trainer

from counterpoise import losses
from counterpoise.core.counts import ClassCounts
from counterpoise.core.errors import ArgumentError, ArgumentTypeError
from counterpoise.integrations.huggingface import BalancedTrainerMixin, loss_for_trainer, metrics_for_trainer
from counterpoise.samplers import ClassBalancedSampler, ProgressiveSampler

ROOT = Path(__file__).parents[2]
MEAN_WEIGHT = sum(n * w for n, w in zip(COUNTS, WEIGHT, strict=True)) / sum(COUNTS)
CUTS = [(32, 1), (8, 4), (16, 2)]


def by_hand(batches: list[list[int]], *, multilabel: bool = False) -> torch.Tensor:
    """Gradient descent with torch's own functions on these batches: Σ loss / (rows · mean weight), rate ½."""
    data, model = Points(multilabel=multilabel), Linear()
    for rows in batches:
        z, y = model.head(data.x[rows]), data.targets[rows]
        if multilabel:  # asymmetric loss: γ⁺ = 1, γ⁻ = 4, m = 0.05, the focus a constant, weights 1, 2, 6
            p, t = torch.sigmoid(z), y.double()
            negative = (p - 0.05).clamp(min=0)
            focus = (t * (1 - p) + (1 - t) * negative**4).detach()
            weight = 1 + t * (torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64) - 1)
            value = -(weight * focus * (t * p.log() + (1 - t) * (1 - negative).log())).sum() / len(rows)
        else:
            weight = torch.tensor(WEIGHT, dtype=torch.float64)
            value = torch.nn.functional.cross_entropy(z, y, weight=weight, reduction="sum") / (len(rows) * MEAN_WEIGHT)
        model.zero_grad()
        value.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.5 * parameter.grad
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def flat(batches: list[list[int]]) -> list[int]:
    return [row for rows in batches for row in rows]


def together(micro_batches: list[list[int]], steps: int) -> list[list[int]]:
    each = len(micro_batches) // steps
    return [flat(micro_batches[i * each : (i + 1) * each]) for i in range(steps)]


@pytest.mark.parametrize(("size", "accumulated"), CUTS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_accumulated_micro_batches_are_one_batch(tmp_path: Path, size: int, accumulated: int, multilabel: bool) -> None:
    loss, data = (multilabel_loss(), Points(multilabel=True)) if multilabel else (None, None)
    sampler = sampler_of_points()
    cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
    parameters, seen = trained(tmp_path, loss=loss, data=data, sampler=sampler, **cut)
    assert {len(rows) for rows in seen} == {size}
    steps = together(seen, 3)
    torch.testing.assert_close(parameters, by_hand(steps, multilabel=multilabel), rtol=1e-12, atol=1e-14)
    assert steps == [batch.tolist() for batch in sampler.batches(32)]


def test_a_vision_transformer_takes_the_same_step_in_float32(tmp_path: Path) -> None:
    """A model of the library itself, which is handed the count too and must not compute a loss of its own."""
    from transformers import ViTConfig, ViTForImageClassification, set_seed

    pixels = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = [{"pixel_values": x, "labels": i % 3} for i, x in enumerate(pixels)]
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ends = []
    for size, accumulated in [(32, 1), (8, 4)]:
        set_seed(0)
        model = ViTForImageClassification(ViTConfig(**shape, image_size=8, patch_size=4, num_labels=3))
        start = torch.cat([p.detach().flatten() for p in model.parameters()])
        cut = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "max_steps": 2}
        loss = loss_for_trainer(losses.ClassBalancedLoss(class_counts=COUNTS), prior=COUNTS)
        Trainer(model, arguments(tmp_path, **cut), train_dataset=data, compute_loss_func=loss).train()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (ends[0] - start).abs().max() > 0.01
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)


def test_a_last_step_of_fewer_micro_batches_is_divided_by_its_own_rows(tmp_path: Path) -> None:
    """96 rows by 20: a last micro-batch of 16, alone in its step after two steps of two."""
    cut = {"per_device_train_batch_size": 20, "gradient_accumulation_steps": 2, "max_steps": -1, "num_train_epochs": 1}
    parameters, seen = trained(tmp_path, **cut)
    assert [len(rows) for rows in seen] == [20, 20, 20, 20, 16]
    steps = [seen[0] + seen[1], seen[2] + seen[3], seen[4]]
    torch.testing.assert_close(parameters, by_hand(steps), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("batch_size", [7, 96])
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_evaluation_loss_is_that_of_all_rows_whatever_the_batch_size(
    tmp_path: Path, batch_size: int, multilabel: bool
) -> None:
    data = Points(multilabel=multilabel)
    module = losses.SigmoidFocalLoss() if multilabel else losses.CrossEntropyLoss(weight=WEIGHT)
    host = trainer(
        tmp_path, loss=loss_for_trainer(module, prior=COUNTS), data=data, per_device_eval_batch_size=batch_size
    )
    z = host.model.head(data.x).detach()
    if multilabel:
        expected = losses.sigmoid_focal_loss(z, data.targets)
    else:  # the rows have the class counts of `prior`: torch's weighted mean is met exactly
        weight = torch.tensor(WEIGHT, dtype=torch.float64)
        expected = torch.nn.functional.cross_entropy(z, data.targets, weight=weight)
    found = host.evaluate(eval_dataset=data)["eval_loss"]
    assert found == pytest.approx(expected.item(), rel=1e-6)  # the Trainer keeps losses in float32


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every run of trainer_runs.py in two processes, and what each of the two got."""
    folder = tmp_path_factory.mktemp("ranks")
    script = str(Path(__file__).with_name("trainer_runs.py"))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, str(folder)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.fault("L34")
@pytest.mark.parametrize("name", ["whole", "accumulated", "counted apart", "multilabel"])
def test_two_processes_take_the_step_of_one(ranks: list[dict[str, Any]], name: str) -> None:
    (first, seen), (second, others) = (rank[name] for rank in ranks)
    assert torch.equal(first, second)
    assert not set(seen[0]) & set(others[0])
    steps = together([rows + other for rows, other in zip(seen, others, strict=True)], 3)
    assert [len(rows) for rows in steps] == [32, 32, 32]
    torch.testing.assert_close(first, by_hand(steps, multilabel=name == "multilabel"), rtol=1e-12, atol=1e-14)


def order(epochs: range, size: int) -> list[list[int]]:
    sampler, batches = sampler_of_points(), []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        batches += [batch.tolist() for batch in sampler.batches(size)]
    return batches


@pytest.mark.fault("S11")
def test_two_processes_share_one_order_that_is_new_every_epoch(ranks: list[dict[str, Any]]) -> None:
    batches = order(range(3), 8)
    assert ranks[0]["epochs"][1] == batches[0::2]
    assert ranks[1]["epochs"][1] == batches[1::2]
    assert batches[:12] != batches[12:24] != batches[24:]


@pytest.mark.fault("S13")
def test_two_processes_resume_within_the_second_epoch(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        (parameters, seen), (_, before), (resumed, after) = (rank[name] for name in ("epochs", "saved", "resumed"))
        assert (len(before), len(after)) == (8, 10)
        assert before + after == seen
        assert torch.equal(parameters, resumed)


@pytest.mark.fault("S13")
@pytest.mark.parametrize(("workers", "steps"), [(0, 14), (0, 12), (2, 14)])
def test_one_process_resumes_with_the_images_that_come_next(tmp_path: Path, workers: int, steps: int) -> None:
    """12 steps an epoch: in the middle of the second, and between two."""
    chosen = {"sampler": sampler_of_points(), "dataloader_num_workers": workers}
    stop = STOPPED | {"max_steps": steps, "save_steps": steps}
    _, before = trained(tmp_path, **chosen, **EPOCHS | stop)
    parameters, after = trained(tmp_path, **chosen, **EPOCHS, resume=str(tmp_path / f"checkpoint-{steps}"))
    whole, _ = trained(tmp_path, **chosen, **EPOCHS)
    assert before + after == order(range(3), 8)
    assert torch.equal(parameters, whole)


def test_the_sampler_defaults_to_balanced_classes_and_takes_the_seed_of_the_arguments(tmp_path: Path) -> None:
    _, seen = trained(tmp_path, **EPOCHS)
    drawn = Points().targets[flat(seen[:12])]
    expected = ClassBalancedSampler(Points().targets, seed=3)
    assert flat(seen[:12]) == list(expected)
    assert torch.bincount(drawn).min() > 24  # of 96; 12 as the data are
    _, seeded = trained(tmp_path, **EPOCHS, data_seed=4)
    assert flat(seeded[:12]) == list(ClassBalancedSampler(Points().targets, seed=4))


def test_a_sampler_may_be_a_function_of_the_labels_and_training_starts_anew(tmp_path: Path) -> None:
    host = trainer(tmp_path, sampler=lambda labels: ProgressiveSampler(labels, epochs=2), **EPOCHS)
    host.train()
    first = list(host.model.seen)
    host.train()
    assert host.model.seen[len(first) :] == first
    progressive = ProgressiveSampler(Points().targets, epochs=2)
    progressive.set_epoch(2)
    assert flat(first[24:]) == list(progressive)


@pytest.mark.parametrize("sizes", [(2, 8), (4, 4)])
def test_data_parallel_counts_come_once_a_gpu(sizes: tuple[int, int]) -> None:
    """The Trainer then multiplies by the number of GPUs, although the loss is that of the whole batch already."""
    gpus, rows = sizes
    z, y = torch.randn(rows, 3, dtype=torch.float64), torch.arange(rows) % 3
    compute = loss_for_trainer(losses.FocalLoss())
    counts = torch.tensor(rows).unsqueeze(0).expand(gpus, -1)
    whole = losses.focal_loss(z, y)
    torch.testing.assert_close(compute({"logits": z}, y, num_items_in_batch=counts) * gpus, whole)
    torch.testing.assert_close(compute((z,), y), whole)  # no count: this batch alone


MODULES: list[tuple[Any, str]] = [
    (losses.CrossEntropyLoss(weight=WEIGHT, reduction="batchmean"), "index"),
    (losses.CrossEntropyLoss(label_smoothing=0.1), "soft"),
    (losses.LogitAdjustedLoss(prior=COUNTS), "ignored"),
    (losses.ClassBalancedSigmoidLoss(class_counts=COUNTS), "index"),
    (losses.BinaryCrossEntropyLoss(reduction="batchmean"), "index"),
    (losses.BinaryCrossEntropyLoss(weight=WEIGHT), "dense"),
    (losses.SigmoidFocalLoss(), "dense ignored"),
]


@pytest.mark.parametrize(("module", "kind"), MODULES, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_parts_add_up_to_the_loss_of_the_whole(module: Any, kind: str) -> None:
    draw = torch.Generator().manual_seed(1)
    z, y = torch.randn(12, 3, generator=draw, dtype=torch.float64), torch.arange(12) % 3
    labels = {
        "index": y,
        "ignored": torch.where(torch.arange(12) < 5, -100, y),
        "soft": torch.softmax(torch.randn(12, 3, generator=draw, dtype=torch.float64), 1),
        "dense": torch.nn.functional.one_hot(y, 3).double(),
    }
    labels["dense ignored"] = torch.where(torch.arange(12)[:, None] < 5, -100.0, labels["dense"])
    target, compute = labels[kind], loss_for_trainer(module)
    count = target.ne(-100).sum()
    parts = [compute({"logits": z[rows]}, target[rows], count) for rows in torch.arange(12).split([3, 4, 5])]
    torch.testing.assert_close(torch.stack(parts).sum(), module(z, target), rtol=1e-12, atol=0)


def test_the_prior_may_be_counts_or_shares_of_any_kind() -> None:
    """Among them the counts of ClassCounts, which are read-only."""
    z, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    module = losses.CrossEntropyLoss(weight=WEIGHT)
    kinds = [COUNTS, ClassCounts(COUNTS).counts, ClassCounts(COUNTS).prior(), torch.tensor(COUNTS)]
    values = [loss_for_trainer(module, prior=prior)({"logits": z}, y, 4).item() for prior in kinds]
    expected = torch.nn.functional.cross_entropy(z, y, weight=torch.tensor(WEIGHT), reduction="sum") / (4 * MEAN_WEIGHT)
    assert values == pytest.approx([expected.item()] * 4, rel=1e-6)


def test_overlap_losses_are_averaged_by_their_share_of_the_labels() -> None:
    z, y = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.randint(0, 2, (4, 3, 3))
    module = losses.DiceLoss()
    compute = loss_for_trainer(module)
    parts = [compute({"logits": z[rows]}, y[rows], 36) for rows in ([0], [1, 2, 3])]
    expected = 0.25 * module(z[:1], y[:1]) + 0.75 * module(z[1:], y[1:])
    torch.testing.assert_close(parts[0] + parts[1], expected)


@pytest.mark.parametrize(
    ("module", "prior", "message"),
    [
        (losses.CrossEntropyLoss(weight=WEIGHT), None, "`prior` is required"),
        (losses.ClassBalancedLoss(class_counts=COUNTS), [1.0, 2.0], "each of the 3 classes; got shape \\(2,\\)"),
        (losses.CrossEntropyLoss(weight=WEIGHT), [1.0, -1.0, 2.0], "at least 0"),
        (losses.CrossEntropyLoss(weight=[0.0, 0.0, 1.0]), [1.0, 1.0, 0.0], "above 0 for a class that has a weight"),
        (losses.CrossEntropyLoss(reduction="sum"), None, "the Trainer averages; got 'sum'"),
        (losses.CrossEntropyLoss(ignore_index=255), None, "ignore_index=-100, .* got 255"),
    ],
)
def test_a_loss_that_cannot_be_divided_is_refused(module: Any, prior: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        loss_for_trainer(module, prior=prior)


def test_other_peoples_losses_and_batches_without_labels_are_refused() -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"`loss` must be a module of counterpoise.losses.* got CrossEntropyLoss"
    ):
        loss_for_trainer(torch.nn.CrossEntropyLoss())  # type: ignore[arg-type]
    compute = loss_for_trainer(losses.FocalLoss())
    with pytest.raises(ArgumentError, match="`labels` is missing"):
        compute({"logits": torch.zeros(1, 2)}, None)
    with pytest.raises(ArgumentTypeError, match=r"`outputs` of the model must have `logits`.* got dict"):
        compute({"scores": torch.zeros(1, 2)}, torch.tensor([0]))


def test_samplers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is for 3 items; `train_dataset` has 96"):
        trained(tmp_path, sampler=ClassBalancedSampler([0, 1, 2]))
    sampler = sampler_of_points()
    sampler.load_state_dict(sampler.state_dict(consumed=5))
    with pytest.raises(ArgumentError, match="a loaded state, 5 samples into an epoch"):
        trained(tmp_path, sampler=sampler)
    with pytest.raises(ArgumentError, match=r"`train_sampling_strategy` must be .*'sequential'"):
        trained(tmp_path, train_sampling_strategy="sequential")


def test_mistakes_of_the_new_user_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentTypeError, match=r"unexpected argument `num_items_in_batch`; wrap .*loss_for"):
        losses.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]), num_items_in_batch=1)
    with pytest.raises(
        ArgumentTypeError,
        match=r"CrossEntropyLoss.forward\(\) got an unexpected argument `gamma`; pass it to the constructor",
    ):
        losses.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]), gamma=1)
    with pytest.raises(
        ArgumentTypeError, match=r"`train_sampler` must be a sampler of counterpoise.samplers.* got str"
    ):
        BalancedTrainerMixin(train_sampler="balanced")
    with pytest.raises(ArgumentError, match="`class_counts` has 2 classes; the logits have 3"):
        metrics_for_trainer([5, 5])((np.zeros((2, 3)), np.array([0, 1])))


def test_metrics_against_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, recall_score

    random = np.random.default_rng(0)
    y, z = random.integers(0, 3, 200), random.normal(size=(200, 3))
    z[np.arange(200), y] += 1
    p = z.argmax(1)
    recalls = recall_score(y, p, average=None)
    found = metrics_for_trainer([500, 300, 5])((z, y))
    assert found == pytest.approx(
        {
            "accuracy": (y == p).mean(),
            "balanced_accuracy": balanced_accuracy_score(y, p),
            "macro_f1": f1_score(y, p, average="macro"),
            "recall_many": recalls[:2].mean(),
            "recall_few": recalls[2],
        }
    )
    padded = np.concatenate([y, [-100, -100]]), np.concatenate([z, z[:2]])
    assert metrics_for_trainer([500, 300, 5])(((padded[1], "hidden states"), padded[0])) == found
    assert metrics_for_trainer([500, 300, 5])((p, y)) == found  # the argmax, from preprocess_logits_for_metrics
    many = (random.random((200, 3)) < 0.3).astype(np.float32)
    expected = average_precision_score(many, z, average="macro")
    assert metrics_for_trainer()((z, many)) == pytest.approx({"mean_average_precision": expected})


def test_the_trainer_reports_the_metrics(tmp_path: Path) -> None:
    host = trainer(tmp_path, per_device_eval_batch_size=7)
    host.compute_metrics = metrics_for_trainer(COUNTS, many=50, few=20)
    found = host.evaluate(eval_dataset=Points())
    data = Points()
    right = (host.model.head(data.x).argmax(1) == data.targets).double()
    assert found["eval_recall_few"] == pytest.approx(right[data.targets == 2].mean().item())
    assert found["eval_recall_medium"] == pytest.approx(right[data.targets == 1].mean().item())


def test_labels_come_through_subsets(tmp_path: Path) -> None:
    """The mixin asks labels_of, which follows the indices of a subset."""
    data = TensorDataset(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]))
    host = trainer(tmp_path, data=Subset(data, [0, 2, 3]))
    assert host._get_train_sampler().state_dict()["items"] == 3
    assert host._get_train_sampler().prior.tolist() == [0.5, 0.5]


def test_without_transformers_the_extra_is_named() -> None:
    code = "import sys; sys.modules['transformers'] = None; import counterpoise.integrations.huggingface"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingExtraError" in done.stderr
    assert "pip install -e '.[huggingface]'" in done.stderr
