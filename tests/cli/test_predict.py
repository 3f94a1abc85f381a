"""The commands that use a trained model: predict, export and evaluate --save."""

import csv
import json
import warnings

import numpy as np
import onnx
import pytest
from tests.cli.photos import call, write_photos

import counterpoise as cp
from counterpoise.cli.predict import MOST_ROWS

NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 red, 8 green and 8 blue images in class folders."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", blue=8)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    call("train", photos, "--strategy", "baseline", "--out", out, "--epochs", "2")
    return out


def test_predict_prints_a_table_writes_csv_and_json(photos, run, tmp_path):
    text = call("predict", run, photos / "red", photos / "blue" / "00.png", "--top", "2").stdout
    assert text.startswith("TrainedModel(resnet20, baseline, 3 classes, 10×10 pixels)")
    assert text.count(".png") == 25
    out = tmp_path / "p.csv"
    assert "40 images predicted" in call("predict", run, photos, "--out", out).stdout
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = cp.load_model(run).predict(photos)
    assert [row["path"] for row in rows] == list(found.names)
    assert [row["prediction"] for row in rows] == found.labels.tolist()
    told = json.loads(call("predict", run, photos, "--json").stdout)
    assert [image["predictions"][0]["class"] for image in told["images"]] == found.labels.tolist()
    assert told["failed"] == []


def test_a_long_table_is_cut_and_says_so(photos, run):
    text = call("predict", run, photos).stdout
    assert text.count(".png") == MOST_ROWS
    assert f"and {40 - MOST_ROWS} more; --out FILE writes all of them" in text


def test_images_that_cannot_be_read_are_listed_on_stderr(photos, run, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    result = call("predict", run, tmp_path / "page.jpg", photos / "red" / "00.png", "--json")
    assert "page.jpg: The file cannot be decoded" in result.stderr
    assert "1 image could not be read; the others are predicted" in result.stderr
    told = json.loads(result.stdout)
    assert (len(told["images"]), len(told["failed"])) == (1, 1)
    assert "no image is predicted" in call("predict", run, tmp_path / "page.jpg").stderr


@pytest.mark.filterwarnings("default:the class shares are estimated")
def test_class_shares_are_given_or_estimated(photos, run, tmp_path):
    def probabilities(*options):
        told = json.loads(call("predict", run, photos / "red", "--top", "3", "--json", *options).stdout)
        return told, [{p["class"]: p["probability"] for p in image["predictions"]} for image in told["images"]]

    counts = cp.load_model(run).run.train_counts
    _, plain = probabilities()
    _, train = probabilities("--target-prior", "train")
    _, listed = probabilities("--target-prior", ",".join(map(str, counts)))
    (tmp_path / "q.json").write_text(json.dumps(dict(zip(NAMES, counts, strict=True))))
    _, named = probabilities("--target-prior", tmp_path / "q.json")
    for found in (train, listed, named):
        assert all(found[i][c] == pytest.approx(plain[i][c], abs=1e-5) for i in range(24) for c in NAMES)
    _, uniform = probabilities("--target-prior", "uniform")
    assert sum(row["red"] for row in uniform) < sum(row["red"] for row in plain)
    told, _ = probabilities("--estimate-prior")
    assert sum(told["estimated_prior"].values()) == pytest.approx(1.0)


def test_given_class_shares_sum_to_1_and_are_printed(photos, run):
    image = photos / "red" / "00.png"
    text = call("predict", run, image, "--target-prior", "3,1,0").stdout
    assert "given class shares: blue 75.0 %, green 25.0 %, red 0.0 %" in text
    assert "blue 50.0 %, green 25.0 %" in call("predict", run, image, "--target-prior", "0.5,0.25,0.2505").stdout
    error = call("predict", run, image, "--target-prior", "0.5,0.5,0.5", code=2).stderr
    assert "`--target-prior` must be shares that sum to 1; the sum of those given is 1.5;" in error


def test_a_table_that_exists_is_kept_unless_overwritten(photos, run, tmp_path):
    out, image = tmp_path / "p.csv", photos / "red" / "00.png"
    out.write_text("mine")
    error = call("predict", run, image, "--out", out, code=2).stderr
    assert "p.csv exists; name another file, or give `--overwrite` to replace it" in " ".join(error.split())
    assert out.read_text() == "mine"
    call("predict", run, image, "--out", out, "--overwrite")
    assert out.read_text().startswith("path,prediction,probability")


@pytest.mark.filterwarnings("always:the class shares are estimated")
def test_estimated_class_shares_of_few_images_come_with_a_warning(photos, run):
    one = call("predict", run, photos / "red/00.png", "--estimate-prior").stderr
    assert "warning: the class shares are estimated from 1 image of 3 classes" in one
    assert "a share of 1/3 by up to 92 points (95 % interval)" in one
    assert "at least 60 images together, or give the shares that you know as `--target-prior`" in one
    model, image = cp.load_model(run), np.zeros((10, 10, 3), np.uint8)
    with warnings.catch_warnings(record=True) as told:
        model.predict([image] * 60, estimate_target_prior=True)
    assert not told
    with pytest.warns(UserWarning, match="estimated from 59 images"):
        model.predict([image] * 59, estimate_target_prior=True)
    assert not call("predict", run, photos / "red/00.png", "--target-prior", "uniform").stderr


def test_export_writes_a_model_with_classes(run, tmp_path):
    text = call("export", run, "--out", tmp_path / "m.onnx").stdout
    assert "m.onnx" in text
    assert "float32 (N, 3, 10, 10), RGB in [0, 1]" in text
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"))
    told = json.loads(call("export", run, "--out", tmp_path / "m.pt2", "--json").stdout)
    assert told["classes"] == list(NAMES)
    assert (tmp_path / "m.pt2").stat().st_size > 10_000


def test_tuned_values_are_saved_and_predicted_with(photos, run):
    plain = call("predict", run, photos, "--top", "3", "--json").stdout
    text = call("evaluate", run, "--tune", "thresholds", "--save").stdout
    assert "tuned.json, which predict and export apply; delete it to undo" in text
    assert call("predict", run, photos, "--top", "3", "--json").stdout != plain
    without = call("evaluate", run).stderr
    assert f"without the tuned thresholds that are saved in {run}" in " ".join(without.split())
    assert "with tuned thresholds" in repr(cp.load_model(run))
    (run / "tuned.json").unlink()
    assert "tuned" not in call("evaluate", run).stderr
    assert "tuned" not in repr(cp.load_model(run))
    assert call("predict", run, photos, "--top", "3", "--json").stdout == plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "{tmp}", "{photos}"), r"holds no run.json or comparison.json"),
        (("predict", "{tmp}/nowhere", "{photos}"), "holds no run.json"),
        (("predict", "{run}", "{tmp}/nowhere.png"), "nowhere.png does not exist"),
        (("predict", "{run}", "{tmp}"), "has no images"),
        (("predict", "{run}", "{photos}", "--target-prior", "0.5,0.5"), "`--target-prior` must have shape (3,)"),
        (
            ("predict", "{run}", "{photos}", "--target-prior", "half"),
            "must be uniform, train, numbers",
        ),
        (
            ("predict", "{run}", "{photos}", "--target-prior", "uniform", "--estimate-prior"),
            "`--estimate-prior` exclude",
        ),
        (
            ("predict", "{run}", "{photos}", "--device", "warp"),
            "`--device` must be auto, cpu, cuda, cuda:N with a whole number N, or mps; got 'warp'",
        ),
        (("predict", "{run}", "{photos}", "--strategy", "focal"), "`--strategy` chooses a run of a comparison"),
        (("predict", "{run}", "{photos}", "--out", "{photos}/red/00.png"), "`--out` must end in .csv"),
        (("predict", "{run}", "{photos}", "--out", "{tmp}"), "`--out` is the folder"),
        (
            ("predict", "{run}", "{photos}", "--target-prior", "{photos}.json"),
            "`--target-prior` must be one number per",
        ),
        (("export", "{run}", "--out", "{tmp}/m.pth"), "`--out` must end in .onnx or .pt2"),
        (("evaluate", "{run}", "--save"), "`--save` saves what `--tune` has fitted"),
        (("evaluate", "{tmp}/scores.npz", "--tune", "thresholds", "--save"), "`--save` saves what `--tune` has fitted"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line_and_exit_2(arguments, message, photos, run, tmp_path):
    np.savez(tmp_path / "scores.npz", logits=np.eye(3), labels=np.arange(3))
    photos.with_name("photos.json").write_text('{"blue": "much", "green": 1, "red": 1}')
    given = [part.format(tmp=tmp_path, photos=photos, run=run) for part in arguments]
    error = call(*given, code=2).stderr
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.npz"]
