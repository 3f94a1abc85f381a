"""Small pictures of the data: pixels and nothing else."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from counterpoise.core.counts import ClassCounts
from counterpoise.core.images import LabeledImages
from counterpoise.workflow.audit import audit
from counterpoise.workflow.report import render_html


class Pictures(LabeledImages):
    """Four classes: red, one whose file is broken, one without training images, green."""

    name = "pictures"
    classes = ("red", "broken", "absent", "<green>")
    labels = np.array([0, 0, 1, 2, 3])
    paths = ("a.png", "b.png", "c.png", "d.png", "e.png")
    splits = np.array(["test", "train", "train", "test", "train"])
    symmetries: frozenset[Any] = frozenset()

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise OSError("truncated")
        colour = {0: (9, 9, 9), 1: (200, 0, 0), 4: (0, 200, 0)}[index]
        return np.full((300, 150, 3), colour, dtype=np.uint8)

    def subset(self, split: str) -> Pictures:
        raise NotImplementedError

    def counts(self, split: str = "train") -> ClassCounts:
        inside = self.labels[self.splits == split]
        return ClassCounts.from_labels(inside, names=self.classes, num_classes=4)

    def to_dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.fault("R2")
@pytest.mark.fault("R6")
def test_the_first_training_image_of_a_class_is_encoded_anew_and_small():
    text = render_html(audit(Pictures(), duplicates=False), data=Pictures())
    found = [base64.b64decode(code) for code in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)]
    pictures = [Image.open(io.BytesIO(data)) for data in found]
    assert [p.size for p in pictures] == [(56, 112), (56, 112)]
    np.testing.assert_allclose([p.getpixel((5, 5)) for p in pictures], [(200, 0, 0), (0, 200, 0)], atol=4)
    assert all({key[:4] for key in p.info} == {"jfif"} and not p.getexif() for p in pictures)
    assert "&lt;green&gt;" in text
    assert "a.png" not in text
