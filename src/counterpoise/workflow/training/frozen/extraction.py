"""`extract_features`: the features of all images of a dataset, each decoded and passed through the network once."""

from __future__ import annotations

import copy
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor

from counterpoise.core.checks import checked_choice, checked_count
from counterpoise.core.errors import ArgumentError, DatasetError
from counterpoise.core.images import (
    SPLITS,
    FileStates,
    LabeledImages,
    Split,
    array_digest,
    current_states,
    image_digest,
    size_and_change,
)
from counterpoise.core.text import described
from counterpoise.models import CustomModel, FeatureExtractor, WeightFile, build_extractor, folded, round_to_half
from counterpoise.workflow.training.augmentation import augmented
from counterpoise.workflow.training.custom import Augmentation
from counterpoise.workflow.training.data import fit_to_square, to_tensor
from counterpoise.workflow.training.devices import used_device
from counterpoise.workflow.training.frozen.cache import FeatureStore
from counterpoise.workflow.training.frozen.features import FeatureArray, Features
from counterpoise.workflow.training.run_folder import tensors_digest
from counterpoise.workflow.training.settings import Resize

PRECISIONS = ("no", "bf16", "fp16", "auto")

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH = {"cpu": 64, "cuda": 256}
_CHUNK = 8
_RECENT = 10.0

Progress = Callable[[int, int, float], None]
"""Called with the images done, the number of images, and the images per second that pass through the network.

The latter is 0 as long as the features of all images were known.
"""


def extract_features(  # noqa: PLR0913 - the settings that determine features, each by name
    data: LabeledImages,
    *,
    model: str | CustomModel,
    pretrained: bool,
    weights: str | WeightFile | None,
    image_size: int,
    resize: Resize,
    views: int = 0,
    augment: tuple[Augmentation, ...] = (),
    precision: str = "no",
    device: torch.device | str | None = None,
    cache: Path | None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Features:
    """Compute the features of all images of a dataset.

    Features are rounded to float16 (those beyond ±65504 are kept as float32), and an image is known by its content.
    With a cache an image is therefore passed through the network once per network and preparation: not again with
    other names, splits or labels, or after an interruption.

    Args:
        data: the images. Those that cannot be decoded are in ``faults`` of the result.
        model, pretrained: as for `build_model`.
        weights: file of weights of the backbone, as in `Settings`.
        image_size, resize: as in `Settings`.
        views: V, number of augmented views of each training image.
        augment: the transforms of a view: "crop", "hflip", "vflip", "rot90", and functions as in `Settings`. They
            depend on ``seed``, on the content of the image and on the number of the view.
        precision: "no" (float32), "bf16", "fp16", or "auto": bf16 on a GPU that computes with it, else float32.
        device: None for a GPU if there is one.
        cache: folder of the features, which later calls use; None keeps nothing. Views by functions are not kept,
            because a change of a function cannot be noticed.
        seed: of the views.
        progress: called as the work goes on.

    Raises:
        ArgumentError: the model is unknown or gives no features ``(N, D)``, or a feature is not finite.
        WriteError: the cache cannot be written; what was written before is used by the next call.
    """
    checked_choice("precision", precision, PRECISIONS)
    checked_count("views", views, minimum=0)
    if views and not augment:
        raise ArgumentError("`views` needs transforms in `augment`, without which every view equals the image")
    chosen = used_device(None if device is None else torch.device(device))
    file = WeightFile.of(Path(weights)) if isinstance(weights, str) else weights
    extractor = build_extractor(model, pretrained=pretrained, weights=file, seed=seed)
    name = model.name if isinstance(model, CustomModel) else model
    network = _Network(extractor, name, image_size, chosen, precision)
    image_source = {
        "model": name,
        "weights": tensors_digest(extractor.state_dict()),
        "image_size": image_size,
        "resize": resize,
        "mean": [round(value, 6) for value in extractor.mean.flatten().tolist()],
        "std": [round(value, 6) for value in extractor.std.flatten().tolist()],
        "precision": network.precision,
    }
    view_source = {"augment": [step if isinstance(step, str) else described(step) for step in augment], "seed": seed}
    view_cache = None if any(callable(step) for step in augment) else cache
    stores = [FeatureStore(cache, image_source)]
    stores += [FeatureStore(view_cache, {**image_source, **view_source, "view": view}) for view in range(1, views + 1)]
    work = _Extraction(data, network, stores, image_size, resize, augment, seed)
    work.run(progress)
    source = {**image_source, "views": views, **(view_source if views else {})}
    return Features(work.values(), source, extractor, work.faults())


class _Item(NamedTuple):
    """A prepared image: the view it is, the digest of its content, and ``(3, S, S)`` as uint8 or as float in [0, 1]."""

    view: int
    digest: bytes
    image: Tensor


@dataclass
class _Extraction:
    """One call of `extract_features`: which features are missing, and the threads that prepare their images."""

    data: LabeledImages
    network: _Network
    stores: list[FeatureStore]
    size: int
    resize: Resize
    augment: tuple[Augmentation, ...]
    seed: int
    states: FileStates = field(init=False)
    digests: list[bytes] = field(init=False)
    reasons: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.states = current_states(self.data, np.arange(len(self.data)))
        known = zip(self.states.digests, self.states.hashed.tolist(), strict=True)
        self.digests = [digest.tobytes() if hashed else b"" for digest, hashed in known]
        self._is_train = self.data.splits == "train"
        self._claimed: set[tuple[bytes, int]] = set()
        self._lock, self._drawing = threading.Lock(), threading.Lock()

    def run(self, progress: Progress | None) -> None:
        """Compute all features that are missing."""
        for store in self.stores:
            store.prepare()
        try:
            self._compute_missing(progress)
        finally:  # what is computed stays, also after an interruption
            for store in self.stores:
                store.flush()
        self._explain_missing()
        if isinstance(kept := getattr(self.data, "states", None), FileStates):
            kept[:] = self.states

    def _compute_missing(self, progress: Progress | None) -> None:
        pending: list[_Item] = []
        rate, computed = _Rate(), 0
        for done, items in self._prepared():
            pending += items
            computed += len({item.digest for item in items})
            while len(pending) >= self.network.batch_size:
                batch, pending = pending[: self.network.batch_size], pending[self.network.batch_size :]
                self._compute(batch)
            if progress is not None and items and done < len(self.data):
                progress(done, len(self.data), rate.after(computed))
        self._compute(pending)
        if progress is not None:
            progress(len(self.data), len(self.data), rate.overall(computed))

    def values(self) -> dict[Split, FeatureArray]:
        """The features of each split; 0 for images with a fault."""
        found: dict[Split, FeatureArray] = {}
        for split in SPLITS:
            rows = np.flatnonzero(self.data.splits == split)
            kept = np.array([row not in self.reasons for row in rows.tolist()], dtype=bool)
            digests = [self.digests[row] for row in rows[kept].tolist()]
            gathered = [store.gather(digests) for store in (self.stores if split == "train" else self.stores[:1])]
            shape = (len(rows), len(gathered), gathered[0].shape[1])
            found[split] = np.zeros(shape, dtype=np.result_type(*gathered))
            for view, features in enumerate(gathered):
                found[split][kept, view] = features
        return found

    def faults(self) -> dict[Split, dict[int, str]]:
        """The images that cannot be decoded, by their row in the split."""
        found: dict[Split, dict[int, str]] = {}
        for split in SPLITS:
            rows = np.flatnonzero(self.data.splits == split).tolist()
            found[split] = {i: self.reasons[row] for i, row in enumerate(rows) if row in self.reasons}
        return {split: reasons for split, reasons in found.items() if reasons}

    def _prepared(self) -> Iterator[tuple[int, list[_Item]]]:
        """The images whose features are missing, in order, after the number of images that were looked at."""
        starts = range(0, len(self.data), _CHUNK)
        chunks = deque(range(start, min(start + _CHUNK, len(self.data))) for start in starts)
        # On the CPU a batch is prepared before the network runs, because threads of both would wait for each other.
        is_overlapped = self.network.device.type != "cpu"
        ahead = max(1, (1 + is_overlapped) * self.network.batch_size // _CHUNK)
        waiting: deque[tuple[int, Future[list[_Item]]]] = deque()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                while chunks or waiting:
                    if is_overlapped or not waiting:
                        new = [chunks.popleft() for _ in range(min(len(chunks), ahead - len(waiting)))]
                        waiting += [(chunk.stop, pool.submit(self._prepare, chunk)) for chunk in new]
                    if not is_overlapped:
                        wait([future for _, future in waiting])
                    done, future = waiting.popleft()
                    yield done, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _prepare(self, rows: Sequence[int]) -> list[_Item]:
        return [item for row in rows for item in self._prepare_one(row)]

    def _prepare_one(self, row: int) -> list[_Item]:
        """Decode an image if the features of its content are missing, and make the views."""
        image = self._identify(row)
        digest = self.digests[row]
        with self._lock:
            views = range(len(self.stores) if self._is_train[row] else 1)
            missing = [v for v in views if (digest, v) not in self._claimed and digest not in self.stores[v]]
            self._claimed.update((digest, view) for view in missing)
        if not missing or row in self.reasons:
            return []
        try:
            image = self.data[row] if image is None else image
        except DatasetError as error:
            self.reasons[row] = str(error)
            return []
        if (file := self.data.file(row)) is not None:
            self._expect_unchanged(row, file)
        tensor = to_tensor(fit_to_square(image, self.size, self.resize))
        return [_Item(view, digest, self._view(tensor, digest, view)) for view in missing]

    def _identify(self, row: int) -> NDArray[np.uint8] | None:
        """Find the digest of an image; the image itself if it had to be decoded for that."""
        if self.digests[row]:
            return None
        now = time.time_ns()
        digest = image_digest(self.data, row, self.data.file(row))
        image = None
        if digest is None:  # the file cannot be opened, or is a link
            try:
                image = self.data[row]
            except DatasetError as error:
                self.reasons[row] = str(error)
                return None
            digest = array_digest(image)
        else:
            self.states.digests[row], self.states.hashed[row] = np.frombuffer(digest, dtype=np.uint8), now
        self.digests[row] = digest
        return image

    def _expect_unchanged(self, row: int, file: str) -> None:
        """Raise `DatasetError` if a file has changed since it was identified."""
        if size_and_change(file) != (self.states.sizes[row], self.states.changed[row]):
            raise DatasetError(
                f"{self.data.paths[row]} changed while it was read; start again when no other program writes there"
            )

    def _view(self, image: Tensor, digest: bytes, view: int) -> Tensor:
        """The image itself for view 0, else an augmented one."""
        if view == 0:
            return image
        entropy = hashlib.sha256(digest + f" {self.seed} {view}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(entropy[:8], "big"))
        own = int.from_bytes(entropy[8:12], "big")
        # Functions of the user draw from the random numbers of the process, which threads share.
        with self._drawing if any(callable(step) for step in self.augment) else nullcontext():
            return augmented(image[None], self.augment, generator=generator, seed=own)[0]

    def _compute(self, items: list[_Item]) -> None:
        """Pass a batch through the network, and keep its features."""
        if not items:
            return
        images = [item.image for item in items]
        if any(image.is_floating_point() for image in images):
            images = [image if image.is_floating_point() else image.float().div_(255) for image in images]
        features = self.network(torch.stack(images))
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            path = self.data.paths[self.digests.index(items[int(np.argmin(finite))].digest)]
            raise ArgumentError(
                f"`model` {self.network.name} gives NaN or infinity for image {path!r} with precision "
                f"{self.network.precision!r}; use precision 'no', or other weights"
            )
        for item, row in zip(items, features, strict=True):
            self.stores[item.view].add(item.digest, row)

    def _explain_missing(self) -> None:
        """Find the reason of images without features: copies of one that cannot be decoded."""
        for row, digest in enumerate(self.digests):
            if row not in self.reasons and digest not in self.stores[0]:
                try:
                    image = self.data[row]
                except DatasetError as error:
                    self.reasons[row] = str(error)
                else:
                    raise DatasetError(f"{self.data.paths[row]} {image.shape} changed while it was read; start again")


class _Network:
    """A frozen backbone on a device: images → features, in batches that fit in memory."""

    def __init__(self, extractor: FeatureExtractor, name: str, size: int, device: torch.device, precision: str) -> None:
        self.extractor, self.name, self.size, self.device = extractor, name, size, device
        self.precision = _precision(precision, device)
        self.batch_size = _BATCH.get(device.type, _BATCH["cpu"])

    @cached_property
    def _on_device(self) -> FeatureExtractor:
        """The backbone for fast inference, made and tried when the first image has to be passed through it."""
        try:
            with torch.inference_mode():
                features = self.extractor(torch.zeros(2, 3, self.size, self.size))
        except Exception as error:  # a model of a library can raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ArgumentError(
                f"`model` {self.name} cannot process images of {self.size}×{self.size} pixels: {reason}; choose "
                "another `image_size`"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ArgumentError(
                f"`model` {self.name} must give one vector of features per image, (N, D); for 2 images it gives "
                f"{shape}; use a model for classification, whose features are pooled"
            )
        fast = copy.deepcopy(folded(self.extractor, image_size=self.size))
        return fast.to(self.device).to(memory_format=fast.memory_format)

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Features float32 ``(N, D)``, rounded to float16, of images ``(N, 3, S, S)``: uint8, or float in [0, 1]."""
        parts: list[Tensor] = []
        start = 0
        while start < len(images):
            batch = images[start : start + self.batch_size]
            try:
                parts.append(self._features(batch))
                start += len(batch)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                self._halve_batch(error)
        rounded: NDArray[np.float32] = torch.cat(parts).numpy()
        return rounded

    def _features(self, images: Tensor) -> Tensor:
        # A batch of one image may be computed by other kernels, with other roundings.
        padded = images if len(images) > 1 else images.expand(2, -1, -1, -1)
        inputs = padded.to(self.device)
        if not inputs.is_floating_point():
            inputs = inputs.float().div_(255)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        dtype = _DTYPES.get(self.precision)
        cast = nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)
        with torch.inference_mode(), cast:
            features = self._on_device(inputs)
            return round_to_half(features.float()).cpu()[: len(images)]

    def _halve_batch(self, error: RuntimeError) -> None:
        if self.batch_size == 1:
            raise ArgumentError(
                f"`image_size`: one image does not fit in the memory of the device with {self.name}; use a smaller "
                "size, a smaller model or another device"
            ) from error
        self.batch_size //= 2


class _Rate:
    """Images per second: over the last seconds, and over all."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])

    def after(self, done: int) -> float:
        now = time.perf_counter()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RECENT:
            self._marks.popleft()
        start, before = self._marks[0]
        return (done - before) / max(now - start, 1e-9)

    def overall(self, done: int) -> float:
        return done / max(time.perf_counter() - self._start, 1e-9)


def _precision(precision: str, device: torch.device) -> str:
    """The precision that "auto" stands for on a device."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
