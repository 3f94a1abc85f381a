"""A trained model from its folder: the predictions that were evaluated, on any kind of image, or a clear refusal."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.workflow.blobs import blobs

import counterpoise as cp
from counterpoise.core.artifacts import Comparison, Predictions, Run
from counterpoise.core.errors import ArgumentError, ArgumentTypeError, ArtifactError, DatasetError
from counterpoise.posthoc import TRANSFORMS, adjust_logits
from counterpoise.workflow.comparison import compare
from counterpoise.workflow.deployment import TrainedModel
from counterpoise.workflow.evaluation import save_tuning, tune

# Together they have every step of `TRANSFORMS` that a strategy can have; temperatures are only tuned afterwards.
STRATEGIES = {
    "baseline": [],
    "post-hoc-logit-adjusted": ["adjust_logits"],
    "tau-norm": ["tau_normalize"],
    "tuned-thresholds": ["tune_thresholds"],
    "ldam": ["scale_logits"],
    "sigmoid-focal": ["log_sigmoid"],
    "hierarchical": ["leaf_log_probabilities"],
    "hierarchical-separate": ["leaf_log_probabilities"],
    "decoupled": [],
}
SIZES = {"train": (40, 20, 10), "val": (8, 8, 8), "test": (9, 9, 9)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A finished run of every strategy; small batches, so that the last one is not full."""
    root = tmp_path_factory.mktemp("runs")
    for name in STRATEGIES:
        cp.train(name, blobs(SIZES), epochs=2, batch_size=4, out=root / name)
    return root


@pytest.fixture(scope="module")
def model(folders):
    return cp.load_model(folders / "post-hoc-logit-adjusted")


@pytest.mark.parametrize("name", STRATEGIES)
def test_predictions_equal_those_of_the_run_bit_for_bit(folders, name):
    saved = Predictions.load(folders / name / "predictions-test.npz")
    model = cp.load_model(folders / name)
    found = model.predict(blobs(SIZES).subset("test"))
    assert [step.method for step in model.run.transforms] == STRATEGIES[name]
    np.testing.assert_array_equal(found.logits, saved.logits)
    assert found.logits.dtype == saved.logits.dtype
    assert found.names == tuple(saved.paths.tolist())
    assert found.labels.tolist() == [found.classes[i] for i in saved.logits.argmax(1)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_module_gives_the_final_logits_too(folders, name):
    model, images = cp.load_model(folders / name), blobs(SIZES).subset("test")
    batch = torch.stack([model.transform(images[i]) for i in range(len(images))])
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    np.testing.assert_allclose(model.module(batch), model.predict(images).logits, atol=2e-6)


def test_every_step_of_a_strategy_is_tested():
    assert {step for steps in STRATEGIES.values() for step in steps} == TRANSFORMS.keys() - {"exclude", "temperature"}


def test_a_class_without_training_images_is_never_predicted(tmp_path):
    sizes = {"train": (12, 0, 9), "val": (3, 3, 3), "test": (3, 3, 3)}
    cp.train("hierarchical", blobs(sizes), epochs=1, out=tmp_path)
    model, images = cp.load_model(tmp_path), blobs(sizes).subset("test")
    found = model.predict(images)
    np.testing.assert_array_equal(found.logits, Predictions.load(tmp_path / "predictions-test.npz").logits)
    assert np.isneginf(found.logits[:, 1]).all()
    batch = torch.stack([model.transform(images[i]) for i in range(len(images))])
    assert torch.isneginf(model.module(batch)[:, 1]).all()


def test_a_run_folder_can_be_moved_alone(folders, tmp_path):
    moved = shutil.copytree(folders / "tau-norm", tmp_path / "elsewhere")
    found = cp.load_model(moved).predict(blobs(SIZES).subset("test"))
    np.testing.assert_array_equal(found.logits, Predictions.load(moved / "predictions-test.npz").logits)


def test_files_images_arrays_and_folders_are_predicted_alike(model, tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(3)]
    (tmp_path / "below").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "b.bmp", tmp_path / "below" / "c.png"]
    for path, array in zip(paths, pixels, strict=True):
        Image.fromarray(array).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    expected = model.predict(pixels)
    assert expected.names == ("0", "1", "2")
    for given in (paths, [Image.fromarray(array) for array in pixels], [str(path) for path in paths], [tmp_path]):
        np.testing.assert_array_equal(model.predict(given).logits, expected.logits)
    assert model.predict(tmp_path).names == tuple(map(str, paths))
    one = model.predict(pixels[0])
    assert one.names == ("0",)
    np.testing.assert_allclose(one.logits, expected.logits[:1], atol=1e-5)


def test_grey_and_rotated_images_are_prepared_as_in_training(model):
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(model.predict(grey).logits, model.predict(colour).logits)
    np.testing.assert_array_equal(model.predict(Image.fromarray(grey)).logits, model.predict(colour).logits)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_images_are_resized_as_in_training(tmp_path, resize):
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("val", 2), ("test", 4)):
        for name, high in (("dark", 90), ("light", 256)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(n):
                image = Image.fromarray(rng.integers(0, high, (10 + i, 24, 3), dtype=np.uint8))
                image.save(tmp_path / "photos" / split / name / f"{i}.png")
    run = cp.train("baseline", tmp_path / "photos", epochs=1, image_size=12, resize=resize, out=tmp_path / "run")
    assert run.settings["resize"] == resize
    found = cp.load_model(run).predict(tmp_path / "photos" / "test")
    saved = Predictions.load(tmp_path / "run" / "predictions-test.npz")
    np.testing.assert_array_equal(found.logits, saved.logits)
    other = replace(run, settings={**run.settings, "resize": "crop"})
    cropped = TrainedModel(other, cp.load_model(run).module.network, torch.device("cpu"))
    assert not np.array_equal(cropped.predict(tmp_path / "photos" / "test").logits, saved.logits)


def test_images_that_cannot_be_decoded_are_listed_and_the_others_predicted(model, tmp_path):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>")
    found = model.predict([tmp_path / "empty.png", tmp_path / "good.png", tmp_path / "page.jpg"])
    assert found.names == (str(tmp_path / "good.png"),)
    assert set(found.failed) == {str(tmp_path / "empty.png"), str(tmp_path / "page.jpg")}
    assert "cannot be decoded" in found.failed[str(tmp_path / "page.jpg")]
    assert (tmp_path / "good.png").read_bytes() == whole
    none = model.predict(tmp_path / "page.jpg")
    assert (len(none), none.logits.shape, len(none.failed)) == (0, (0, 3), 1)
    assert none.labels.tolist() == []


def test_failed_images_do_not_move_the_predictions_of_others(model):
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(20)]
    damaged = Image.open(io.BytesIO(b"P6 8 8 255\n" + b"0" * 20))
    found = model.predict([*images[:7], damaged, *images[7:]], batch_size=3)
    assert found.failed.keys() == {"7"}
    assert found.names == tuple(str(i) for i in range(21) if i != 7)
    np.testing.assert_array_equal(found.logits, model.predict(images, batch_size=3).logits)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("missing.png", DatasetError, r"missing\.png does not exist"),
        ([3], ArgumentTypeError, "paths, PIL images or uint8 arrays; got int"),
        (3, ArgumentTypeError, "paths, PIL images or uint8 arrays; got int"),
        ([np.zeros((0, 5, 3), np.uint8)], ArgumentTypeError, r"got uint8 \(0, 5, 3\)"),
        ([np.zeros((8, 8, 3))], ArgumentTypeError, r"uint8 arrays .* got float64 \(8, 8, 3\)"),
        ([np.zeros((3, 8, 8), np.uint8)], ArgumentTypeError, r"got uint8 \(3, 8, 8\)"),
    ],
)
def test_what_is_no_image_is_refused(model, given, error, message):
    with pytest.raises(error, match=message):
        model.predict(given)


def test_an_empty_folder_is_refused(model, tmp_path):
    with pytest.raises(DatasetError, match="has no images"):
        model.predict(tmp_path)


def test_other_class_shares_move_the_logits_by_bayes_rule(folders):
    model, images = cp.load_model(folders / "baseline"), blobs(SIZES).subset("test")
    plain = model.predict(images)
    shares = [0.1, 0.3, 0.6]
    expected = adjust_logits(plain.logits, np.array([40, 20, 10]), target_prior=shares)
    np.testing.assert_allclose(model.predict(images, target_prior=shares).logits, expected, atol=1e-6)
    by_name = dict(zip(model.classes, shares, strict=True))
    np.testing.assert_array_equal(model.predict(images, target_prior=by_name).logits, expected)
    same = model.predict(images, target_prior=[40, 20, 10])
    np.testing.assert_allclose(same.probabilities, plain.probabilities, atol=1e-6)


@pytest.mark.filterwarnings("ignore:the class shares are estimated")
def test_class_shares_can_be_estimated_from_the_images(folders):
    model, images = cp.load_model(folders / "baseline"), blobs(SIZES).subset("test")
    found = model.predict(images, estimate_target_prior=True)
    expected = cp.posthoc.estimate_prior(model.predict(images).probabilities, [40, 20, 10])
    np.testing.assert_allclose(found.prior, expected, atol=1e-6)
    np.testing.assert_array_equal(found.logits, model.predict(images, target_prior=found.prior).logits)


def test_class_shares_that_do_not_fit_are_refused(folders):
    model, images = cp.load_model(folders / "baseline"), blobs(SIZES).subset("test")
    name = model.classes[0]
    with pytest.raises(ArgumentError, match="has no share for"):
        model.predict(images, target_prior={name: 1.0})
    with pytest.raises(ArgumentError, match="`target_prior` names 'zebra'"):
        model.predict(images, target_prior={"zebra": 1.0})
    with pytest.raises(ArgumentError, match="exclude each other"):
        model.predict(images, target_prior=[1, 1, 1], estimate_target_prior=True)
    unknown = cp.load_model(folders / "tuned-thresholds")
    for options in ({"target_prior": [1, 1, 1]}, {"estimate_target_prior": True}):
        with pytest.raises(ArgumentError, match="class prior in the logits of 'tuned-thresholds' is not known"):
            unknown.predict(images, **options)


def test_the_table_of_predictions_is_written_as_csv_and_json(model, tmp_path):
    found = model.predict(blobs(SIZES).subset("test"))
    rows = found.save(tmp_path / "p.csv", top=2).read_text().splitlines()
    assert rows[0] == "path,prediction,probability,prediction_2,probability_2"
    assert len(rows) == 1 + len(found)
    (first, p1), (second, p2) = found.top(2)[0]
    assert rows[1] == f"{found.names[0]},{first},{p1},{second},{p2}"
    assert first == found.labels[0]
    assert p1 >= p2
    first_image = json.loads(json.dumps(found.to_dict(top=9)))["images"][0]
    assert [entry["class"] for entry in first_image["predictions"]] == [label for label, _ in found.top(3)[0]]


def edited(source, target, **changes):
    """A copy of a run folder with other fields in run.json."""
    shutil.copytree(source, target)
    record = json.loads((target / "run.json").read_text())
    (target / "run.json").write_text(json.dumps({**record, **changes}))
    return target


def test_folders_without_a_usable_model_are_refused(folders, tmp_path):
    source = folders / "baseline"
    with pytest.raises(ArtifactError, match=r"holds no run\.json or comparison\.json"):
        cp.load_model(tmp_path)
    with pytest.raises(ArtifactError, match="not finished"):
        cp.load_model(edited(source, tmp_path / "running", status="running"))
    with pytest.raises(ArtifactError, match="earlier version"):
        cp.load_model(edited(source, tmp_path / "old", transforms=None))
    shutil.copytree(source, tmp_path / "lost")
    (tmp_path / "lost" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors does not exist"):
        cp.load_model(tmp_path / "lost")


def test_another_or_damaged_model_is_refused(folders, tmp_path):
    exchanged = shutil.copytree(folders / "baseline", tmp_path / "exchanged")
    shutil.copy(folders / "decoupled" / "model.safetensors", exchanged)
    with pytest.raises(ArtifactError, match=r"is not the model that .*run\.json records"):
        cp.load_model(exchanged)
    damaged = shutil.copytree(folders / "baseline", tmp_path / "damaged")
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match="is not the model"):
        cp.load_model(damaged)
    other = edited(folders / "baseline", tmp_path / "other")
    settings = json.loads((other / "run.json").read_text())["settings"]
    shutil.rmtree(other)
    other = edited(folders / "baseline", tmp_path / "other", settings={**settings, "model": "resnet32"})
    with pytest.raises(ArtifactError, match=r"does not fit the model"):
        cp.load_model(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"transforms": [{"method": "magic", "parameters": {}}]},
        {"transforms": [{"method": "adjust_logits", "parameters": {"prior": [0.5, 0.5], "tau": 1.0}}]},
        {"transforms": [{"method": "adjust_logits", "parameters": {"strength": 1.0}}]},
        {"transforms": [{"method": "exclude", "parameters": {"classes": [7]}}]},
        {"settings": {"model": "resnet20"}},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_the_model_is_refused(folders, tmp_path, changes):
    with pytest.raises(ArtifactError, match=r"run\.json is damaged: its settings or transforms do not fit"):
        cp.load_model(edited(folders / "baseline", tmp_path / "run", **changes))


def test_a_comparison_gives_its_recommended_model(tmp_path):
    compare(blobs(SIZES), strategies=["baseline", "focal"], seeds=2, epochs=1, out=tmp_path)
    comparison = Comparison.load(tmp_path / "comparison.json")

    def with_verdict(kind, recommended):
        content = json.loads((tmp_path / "comparison.json").read_text())
        content["verdict"] |= {"kind": kind, "recommended": recommended, "leader": "focal"}
        (tmp_path / "comparison.json").write_text(json.dumps(content))

    with_verdict("clear", "focal")
    assert (cp.load_model(tmp_path).run.strategy.name, cp.load_model(tmp_path).run.seed) == ("focal", 0)
    chosen = cp.load_model(tmp_path, strategy="baseline", seed=1).run
    assert (chosen.strategy.name, chosen.seed) == ("baseline", 1)
    with pytest.raises(ArgumentError, match="`seed` must be one of"):
        cp.load_model(tmp_path, seed=7)
    with pytest.raises(ArgumentError, match="`strategy` must be one of"):
        cp.load_model(tmp_path, strategy="fokal")
    for recommended in (None, "focal"):  # "focal": as earlier versions wrote the leader
        with_verdict("undecided", recommended)
        with pytest.raises(
            ArgumentError, match=r"`strategy` is needed, .* 'baseline', 'focal' \('focal' is ahead on validation\)"
        ):
            cp.load_model(tmp_path)
    assert cp.load_model(tmp_path, strategy="focal").classes == tuple(c.name for c in comparison.audit.classes)
    with pytest.raises(ArgumentError, match="is not the folder of one"):
        cp.load_model(tmp_path / "runs" / "focal-seed0", strategy="focal")


def test_a_run_of_train_is_taken_as_it_is_returned(tmp_path):
    run = cp.train("baseline", blobs(), epochs=1, out=tmp_path)
    assert cp.load_model(run).run == run == replace(Run.load(tmp_path / "run.json"), directory=str(tmp_path))


def test_a_device_that_is_not_there_is_refused(folders):
    with pytest.raises(ArgumentError, match=r"`device` 'cuda:99' does not exist: .*; choose auto or cpu"):
        cp.load_model(folders / "baseline", device="cuda:99")
    with pytest.raises(ArgumentError, match=r"`device` must be auto, cpu, cuda, cuda:N .*; got 'gpu'"):
        cp.load_model(folders / "baseline", device="gpu")


@pytest.mark.parametrize("kind", ["tau", "thresholds", "temperature"])
def test_saved_tuning_is_applied(folders, tmp_path, kind):
    folder = shutil.copytree(folders / "baseline", tmp_path / "run")
    images, before = blobs(SIZES).subset("test"), cp.load_model(folder)
    tuned = tune(kind, folder / "predictions-val.npz", other=folder / "predictions-test.npz", prior=before.run.prior)
    save_tuning(tuned, folder)
    model = cp.load_model(folder)
    predicted = model.predict(images)
    assert tuple(np.diag(np.array(tuned.after.confusion))) == tuple(
        int(((predicted.indices == c) & (images.labels == c)).sum()) for c in range(3)
    )
    assert not np.array_equal(predicted.logits, before.predict(images).logits)
    batch = torch.stack([model.transform(images[i]) for i in range(len(images))])
    np.testing.assert_allclose(model.module(batch), predicted.logits, atol=2e-6)
    assert bool(model.run.prior) == (kind == "tau")
    if kind != "tau":
        with pytest.raises(ArgumentError, match=r"the tuned values in .*tuned\.json leave no known class prior"):
            model.predict(images, target_prior=[1, 1, 1])
    if kind == "tau":
        after = model.predict(images, target_prior=[40, 20, 10]).probabilities
        np.testing.assert_allclose(after, before.predict(images).probabilities, atol=1e-6)
    (folder / "tuned.json").unlink()
    np.testing.assert_array_equal(cp.load_model(folder).predict(images).logits, before.predict(images).logits)


def test_tuning_of_another_run_is_refused_and_training_again_removes_it(folders, tmp_path):
    folder = shutil.copytree(folders / "baseline", tmp_path / "run")
    tuned = tune("thresholds", folder / "predictions-val.npz")
    save_tuning(tuned, folder)
    shutil.copy(folder / "tuned.json", shutil.copytree(folders / "ldam", tmp_path / "other"))
    with pytest.raises(ArtifactError, match=r"tuned\.json was fitted on other validation predictions"):
        cp.load_model(tmp_path / "other")
    with pytest.raises(ArtifactError, match="no finished run"):
        save_tuning(
            tune("thresholds", folder / "predictions-val.npz"), edited(folder, tmp_path / "x", status="running")
        )
    cp.train("baseline", blobs(SIZES), epochs=1, batch_size=4, out=folder, overwrite=True)
    assert not (folder / "tuned.json").exists()
