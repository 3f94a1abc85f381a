"""Fine-tune an image classifier of Hugging Face on long-tailed data: plainly, and with two losses and a sampler.

    pip install -e '.[huggingface]'
    python examples/huggingface_image_classification.py --max-steps 100

Fine-tunes microsoft/resnet-50 if the hub answers within three seconds, otherwise a small ResNet from scratch;
HF_HUB_OFFLINE=1 chooses the small one. The images are the embedded digits (imbalance ratio 30:1), with a balanced test
set.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import urllib.request
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PrinterCallback,
    ResNetConfig,
    Trainer,
    TrainingArguments,
    ViTImageProcessor,
    set_seed,
)

import counterpoise as cp
from counterpoise.integrations.huggingface import BalancedTrainer, loss_for_trainer, metrics_for_trainer
from counterpoise.losses import ClassBalancedLoss, CrossEntropyLoss, LogitAdjustedLoss

CHECKPOINT = "microsoft/resnet-50"


def hub_answers(seconds: float = 3.0) -> bool:
    """Whether the hub can be reached; in a thread, because a DNS lookup has no timeout."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    answers: list[int] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(
                f"https://huggingface.co/{CHECKPOINT}/raw/main/config.json", timeout=seconds
            ) as r:
                answers.append(r.status)
        except OSError as error:
            print(f"the hub does not answer ({error}): training a small model from scratch")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers == [200]


def processor_and_config(classes: int, *, online: bool) -> tuple[Any, Any]:
    if online:
        return AutoImageProcessor.from_pretrained(CHECKPOINT), None
    small = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=classes
    )
    return ViTImageProcessor(size={"height": 32, "width": 32}), small


def new_model(config: Any, classes: int) -> Any:
    set_seed(0)  # every strategy starts from the same weights
    if config is not None:
        return AutoModelForImageClassification.from_config(config)
    return AutoModelForImageClassification.from_pretrained(CHECKPOINT, num_labels=classes, ignore_mismatched_sizes=True)


def split_of(digits: Any, split: str, processor: Any) -> Dataset:
    """A dataset with the columns image and label, whose images are decoded and processed when they are read."""
    part = digits.subset(split)
    features = Features({"image": Image(), "label": ClassLabel(names=list(part.classes))})
    images = [Picture.fromarray(part[i]) for i in range(len(part))]
    data = Dataset.from_dict({"image": images, "label": part.labels.tolist()}, features=features)

    def processed(rows: dict[str, list[Any]]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows["image"]]
        return {"pixel_values": processor(pictures, return_tensors="pt")["pixel_values"], "label": rows["label"]}

    return data.with_transform(processed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=100)
    steps = parser.parse_args().max_steps

    digits = cp.load("digits")
    counts = digits.counts("train")
    processor, config = processor_and_config(counts.num_classes, online=hub_answers())
    train, test = (split_of(digits, split, processor) for split in ("train", "test"))
    strategies: dict[str, tuple[type[Trainer], Any]] = {
        "plain": (Trainer, loss_for_trainer(CrossEntropyLoss())),
        "class-balanced loss": (
            Trainer,
            loss_for_trainer(ClassBalancedLoss(class_counts=counts, beta=0.99), prior=counts.counts),
        ),
        "logit-adjusted loss": (Trainer, loss_for_trainer(LogitAdjustedLoss(prior=counts.prior()))),
        "class-balanced sampler": (BalancedTrainer, loss_for_trainer(CrossEntropyLoss())),
    }
    print(f"{'':24}accuracy  macro F1  recall of many / medium / few")
    for name, (host, loss) in strategies.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=100,
                learning_rate=3e-3 if config is not None else 1e-4,
                remove_unused_columns=False,  # the transform needs the image
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=False,
                seed=0,
            )
            trainer = host(
                new_model(config, counts.num_classes),
                arguments,
                train_dataset=train,
                eval_dataset=test,
                compute_loss_func=loss,
                compute_metrics=metrics_for_trainer(counts, many=50, few=15),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            found = trainer.evaluate()
        recalls = " / ".join(f"{found[f'eval_recall_{group}']:.3f}" for group in ("many", "medium", "few"))
        print(f"{name:24}{found['eval_accuracy']:.3f}     {found['eval_macro_f1']:.3f}     {recalls}", flush=True)


if __name__ == "__main__":
    main()
