"""A trained model from its run folder: its torch module, its image transform, and predictions on new images."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from counterpoise.core.artifacts import Comparison, Run
from counterpoise.core.checks import checked_choice, checked_count
from counterpoise.core.errors import ArgumentError, ArtifactError, DatasetError
from counterpoise.core.files import path_exists
from counterpoise.core.text import listed, plural
from counterpoise.hierarchy import ClassTree
from counterpoise.models import CustomModel, FrozenClassifier, build_model, inspect_model, set_memory_format
from counterpoise.posthoc import adjust_logits, apply_transforms, estimate_prior
from counterpoise.workflow.deployment.frozen import frozen_network, refuse_own_features
from counterpoise.workflow.deployment.images import ImageLike, ImageTransform, listed_images
from counterpoise.workflow.deployment.module import ImageClassifier, NodeClassifiers
from counterpoise.workflow.deployment.result import ImagePredictions, class_shares
from counterpoise.workflow.evaluation import TUNING_FILE, read_tuning
from counterpoise.workflow.training import RunFolder, checked_device
from counterpoise.workflow.training.custom import checked_model

IMAGES_PER_SHARE = 20
"""Images per class, on average, from which class shares are estimated without a warning."""
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TrainedModel:
    """A trained model, loaded by `load_model`.

    Attributes:
        module: an `nn.Module` in eval mode: images float32 ``(N, 3, S, S)`` in [0, 1] → final logits ``(N, C)``. The
            normalisation is inside, and so is every correction of the strategy, so that the argmax is the prediction.
        transform: the `ImageTransform` from an image to the input of ``module``.
        classes: C class names, in the order of the logits.
        run: the `Run` that trained the model: strategy, settings, class counts; with saved tuning, its ``transforms``
            and ``prior`` include it.
        device: where the module is.
        tuning: "tau", "thresholds" or "temperature" where tuned values are saved in the run and applied; else None.
    """

    def __init__(self, run: Run, network: nn.Module, device: torch.device, tuning: str | None = None) -> None:
        assert run.transforms is not None, "load_model has checked it"
        self.run, self.device, self.classes, self.tuning = run, device, run.classes, tuning
        # With frozen features the images were prepared, and passed through the backbone, when these were extracted.
        prepared = run.settings.get("features") or run.settings
        self.transform = ImageTransform(prepared["image_size"], prepared.get("resize", "crop"))
        self._dtype = _AUTOCAST.get(prepared["precision"])
        module = ImageClassifier(network, run.transforms, len(run.classes))
        set_memory_format(module.to(device))
        self.module: ImageClassifier = module.eval().requires_grad_(False)

    def __repr__(self) -> str:
        strategy, size = self.run.strategy.name, self.transform.size
        if self.tuning is not None:
            strategy += f" with tuned {self.tuning}"
        return f"TrainedModel({self.run.model}, {strategy}, {len(self.classes)} classes, {size}×{size} pixels)"

    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        batch_size: int | None = None,
        target_prior: Any = None,
        estimate_target_prior: bool = False,
    ) -> ImagePredictions:
        """Predict the classes of images.

        Args:
            images: paths of files and folders, PIL images or uint8 arrays ``(H, W, 3)``, or one of them; or a dataset
                of `counterpoise.load`. Of a folder all images are predicted, also those in folders below.
            batch_size: images per pass through the model. None is the size that the training used for its
                predictions: with it, the predictions on the test images equal those of the run bit for bit on the same
                CPU.
            target_prior: ``(C,)`` class shares of the images to predict, which sum to 1, or counts (whole numbers); or
                ``{class: share or count}``. None leaves the predictions as they were evaluated.
            estimate_target_prior: estimate these shares from the images themselves, by expectation maximisation.
                A UserWarning says so where the images are too few: less than 20 per class on average.

        Returns:
            The predictions. An image that cannot be decoded is in ``failed``, with the reason; the others are
            predicted.

        Raises:
            ArgumentError: a prior that does not fit, shares that do not sum to 1, or a model whose logits
                contain no known prior.
            ArgumentTypeError: something that is not an image.
            DatasetError: a path does not exist, or a folder has no images.

        Example:
            >>> model = load_model("runs/focal-seed0")  # doctest: +SKIP
            >>> model.predict(["a.jpg", "b.jpg"]).labels  # doctest: +SKIP
            array(['cat', 'dog'], dtype='<U3')
        """
        if target_prior is not None and estimate_target_prior:
            raise ArgumentError("`target_prior` and `estimate_target_prior` exclude each other; give one of them")
        shares = None if target_prior is None else class_shares(target_prior, self.classes)
        if shares is not None or estimate_target_prior:
            self._check_prior("estimate_target_prior" if estimate_target_prior else "target_prior")
        size = 4 * self.run.settings["batch_size"] if batch_size is None else checked_count("batch_size", batch_size)
        given, names = listed_images(images)
        failed: dict[str, str] = {}
        parts = [(self._raw_logits(batch), rows) for batch, rows in self._batches(given, names, size, failed)]
        kept = tuple(names[row] for _, rows in parts for row in rows)
        if not parts:
            return ImagePredictions((), np.empty((0, len(self.classes)), np.float32), self.classes, failed)
        logits = apply_transforms(np.concatenate([raw for raw, _ in parts]), self.run.transforms or ())
        if estimate_target_prior:
            _warn_of_few_images(len(kept), len(self.classes))
            shares = estimate_prior(ImagePredictions(kept, logits, self.classes).probabilities, self.run.prior)
        if shares is not None:
            logits = adjust_logits(logits, self.run.prior, target_prior=shares, empty="exclude")
        estimated = tuple(shares.tolist()) if estimate_target_prior and shares is not None else ()
        return ImagePredictions(kept, logits, self.classes, failed, estimated)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the module as ONNX (.onnx) or as a program of `torch.export` (.pt2); see `export_model`."""
        from counterpoise.workflow.deployment.export import export_model

        return export_model(self, path)

    def _raw_logits(self, batch: Tensor) -> NDArray[np.float32]:
        """The output of the network for uint8 images, computed as in training."""
        inputs = batch.to(self.device).float().div_(255).contiguous(memory_format=torch.channels_last)
        network = self.module.network
        cast = nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)
        with torch.inference_mode():
            if isinstance(network, FrozenClassifier):
                with cast:
                    features = network.backbone(inputs)
                outputs = network.classify(features)
            else:
                with cast:
                    outputs = network(inputs)
            raw: NDArray[np.float32] = outputs.float().cpu().numpy()
        return raw

    def _batches(
        self, images: Sequence[ImageLike], names: Sequence[str], size: int, failed: dict[str, str]
    ) -> Iterator[tuple[Tensor, list[int]]]:
        """Full batches of the images that can be decoded, and their indices; adds the others to ``failed``."""

        def read(row: int) -> Tensor | str:
            try:
                return self.transform.to_uint8(images[row])
            except DatasetError as error:
                return str(error)

        tensors, rows = [], []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(images), size):
                chunk = range(start, min(start + size, len(images)))
                for row, read_one in zip(chunk, pool.map(read, chunk), strict=True):
                    if isinstance(read_one, str):
                        failed[names[row]] = read_one
                        continue
                    tensors.append(read_one)
                    rows.append(row)
                    if len(tensors) == size:
                        yield torch.stack(tensors), rows
                        tensors, rows = [], []
        if tensors:
            yield torch.stack(tensors), rows

    def _check_prior(self, argument: str) -> None:
        if self.run.prior:
            return
        tuned = Path(self.run.directory) / TUNING_FILE
        if path_exists(tuned):
            raise ArgumentError(
                f"`{argument}`: the tuned values in {tuned} leave no known class prior in the logits; delete this "
                "file to predict without them"
            )
        raise ArgumentError(
            f"`{argument}`: the class prior in the logits of {self.run.strategy.name!r} is not known, because "
            "its loss or its correction does not define one; use a strategy with cross-entropy, such as "
            "logit-adjusted"
        )


def _warn_of_few_images(images: int, classes: int) -> None:
    """Warn of estimated class shares that are mostly chance."""
    enough = IMAGES_PER_SHARE * classes
    if images < enough:
        margin = 196 * np.sqrt(classes - 1) / (classes * np.sqrt(images))
        warnings.warn(
            f"the class shares are estimated from {plural(images, 'image')} of {classes} classes: with so few, chance "
            f"alone moves a share of 1/{classes} by up to {margin:.0f} points (95 % interval), and an estimated share "
            f"shifts all predictions. Predict at least {enough:,} images together, or give the shares that you know as "
            "`target_prior`",
            UserWarning,
            stacklevel=3,
        )


def load_model(
    run: Run | str | os.PathLike[str],
    *,
    strategy: str | None = None,
    seed: int | None = None,
    device: str | torch.device | None = None,
    model: Callable[..., Any] | None = None,
) -> TrainedModel:
    """Load a trained model, to predict the classes of new images.

    Args:
        run: a run folder or the `Run` that `train` returned; or the folder of a comparison, which gives the model of
            its recommended strategy. What ``counterpoise evaluate --tune … --save`` has saved in a run is applied.
        strategy: the strategy to take from a comparison; needed where its verdict is undecided.
        seed: the seed to take from a comparison; None for the first one that finished.
        device: "cpu", "cuda", "cuda:1", "mps", …; None or "auto" for a GPU if there is one.
        model: the function that made the model, for a run that was trained with one, because a run folder has its
            weights and not its code; None for a run with a model by name.

    Returns:
        The `TrainedModel`.

    Raises:
        ArtifactError: no run is in the folder, it is unfinished, or the model is missing, damaged or of an earlier
            version.
        ArgumentError: the comparison has no such strategy or seed, recommends none, or has folds: then it has no model
            that was trained on all images, and the message has the command that trains it. Or ``model`` is missing,
            makes other modules than the function of the training, or is given for a run with a model by name.
        UnsupportedError: the run was trained on features that were computed elsewhere, so it has no backbone.

    Example:
        >>> model = load_model("runs/focal-seed0")  # doctest: +SKIP
        >>> model.predict("photo.jpg").labels[0]  # doctest: +SKIP
        'cat'
    """
    folder = Path(run.directory if isinstance(run, Run) else run)
    if not (folder / "run.json").is_file() and path_exists(folder / "comparison.json"):
        folder = _run_of_comparison(folder, strategy, seed)
    elif strategy is not None or seed is not None:
        name = "strategy" if strategy is not None else "seed"
        raise ArgumentError(f"`{name}` chooses a run of a comparison, and {folder} is not the folder of one; omit it")
    record = RunFolder(folder).read_run() if path_exists(folder) else None
    if record is None:
        raise ArtifactError(f"{folder} holds no run.json or comparison.json; name a folder that train or compare wrote")
    if record.status != "done":
        raise ArtifactError(f"{folder} holds a run that is not finished; continue it with `resume` (--resume)")
    if record.transforms is None:
        raise ArtifactError(f"{folder} was written by an earlier version, which did not record its correction; repeat")
    refuse_own_features(record, folder)
    source = _model_source(record, model, folder)
    tensors = _checked_tensors(folder, record)
    tuning = read_tuning(folder, record)
    if tuning is not None:
        record = replace(record, transforms=(*record.transforms, *tuning.transforms), prior=tuning.prior)
    chosen, network = _device(device), _network(record, tensors, folder, source)
    try:
        return TrainedModel(record, network, chosen, None if tuning is None else tuning.kind)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"{folder / 'run.json'} is damaged: its settings or transforms do not fit the model "
            f"({type(error).__name__}: {error}); copy it again, or train again"
        ) from error


def _run_of_comparison(folder: Path, strategy: str | None, seed: int | None) -> Path:
    comparison = Comparison.load(folder / "comparison.json")
    verdict = comparison.verdict
    if comparison.folds is not None:
        raise ArgumentError(
            f"the comparison in {folder} has {comparison.folds} models per strategy and seed, each trained without the "
            f"images of one fold, and no final model. {verdict.next_step or 'Train one with `train`.'} A model of one "
            f"fold is in its run folder, such as {folder / comparison.arms[0].directories[0]}"
        )
    finished = {arm.strategy.name: arm for arm in comparison.arms if arm.status == "done"}
    if strategy is None:
        if verdict.recommended is None or verdict.kind in ("undecided", "nothing-finished"):
            ahead = f" ({verdict.selected!r} is ahead on validation)" if verdict.selected else ""
            raise ArgumentError(
                f"`strategy` is needed, because the comparison in {folder} recommends none; choose one of "
                f"{listed(finished)}{ahead}"
            )
        strategy = verdict.recommended
    checked_choice("strategy", strategy, tuple(finished))
    arm = finished[strategy]
    chosen = arm.seeds[0] if seed is None else seed
    if chosen not in arm.seeds:
        raise ArgumentError(f"`seed` must be one of {listed(map(str, arm.seeds))}; got {seed}")
    return folder / arm.directories[arm.seeds.index(chosen)]


def _checked_tensors(folder: Path, run: Run) -> dict[str, Tensor]:
    """The tensors of model.safetensors, if it is the file that the run has recorded."""
    file = folder / "model.safetensors"
    saved = RunFolder(folder).read_tensors(file.name)
    if saved is None:
        raise ArtifactError(f"{file} does not exist; copy it from where the run was trained, or train again")
    if hashlib.sha256(file.read_bytes()).hexdigest() != run.digests.get(file.name):
        raise ArtifactError(
            f"{file} is not the model that {folder / 'run.json'} records; copy both again, or train again"
        )
    return saved[0]


def _model_source(run: Run, factory: Callable[..., Any] | None, folder: Path) -> str | CustomModel:
    """The name of a run's model, or the function that made it, if it makes the same architecture."""
    digest = run.settings.get("model_digest")
    if digest is None:
        if factory is not None:
            raise ArgumentError(f"`model`: the run in {folder} was trained with {run.model!r}; leave `model` out")
        return str(run.settings.get("model"))
    if factory is None:
        raise ArgumentError(
            f"the model in {folder} was made by the function {run.model}, whose code a run folder does not have; pass "
            "it in Python: load_model(run, model=function), then predict or export"
        )
    if isinstance(checked_model(factory), str):
        raise ArgumentError(f"`model` must be the function {run.model} that made the model; got {factory!r:.60}")
    size = run.settings.get("image_size")
    if not isinstance(size, int) or size < 1:
        raise ArtifactError(f"{folder / 'run.json'} is damaged: `image_size` is {size!r:.40}; copy it again")
    source = inspect_model(factory, len(run.classes), image_size=size)
    if source.digest != digest:
        raise ArgumentError(
            f"`model` {source.name} makes modules with other parameters than {run.model}, which the run in {folder} "
            "was trained with; pass the function of the training"
        )
    return source


def _network(run: Run, tensors: dict[str, Tensor], folder: Path, source: str | CustomModel) -> nn.Module:
    """The network of a run with its weights; for a separate strategy one network per node."""
    tree = ClassTree.from_dict(run.tree) if run.tree else None
    try:
        if run.settings.get("frozen"):
            return frozen_network(run, tensors, folder, tree, source)
        if not run.strategy.separate:
            network = build_model(source, len(run.classes), head=run.strategy.head, tree=tree)
            network.load_state_dict(tensors)
            return network
        assert tree is not None, "a separate strategy has a tree"
        nodes = sorted({int(name.partition(".")[0].removeprefix("node")) for name in tensors})
        classifiers: dict[int, nn.Module] = {}
        for node in nodes:
            prefix = f"node{node}."
            classifiers[node] = build_model(source, len(tree.children(node)))
            own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            classifiers[node].load_state_dict(own)
        return NodeClassifiers(classifiers, tree)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{folder / 'model.safetensors'} does not fit the model {run.model!r} of run.json: "
            f"{str(error).splitlines()[0]}; train again"
        ) from error


def _device(device: str | torch.device | None) -> torch.device:
    chosen = None if device is None else checked_device(device)
    return chosen or torch.device("cuda" if torch.cuda.is_available() else "cpu")
