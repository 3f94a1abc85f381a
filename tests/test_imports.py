"""What loads what: tried in fresh processes, by looking at sys.modules."""

import pkgutil
import subprocess
import sys

import pytest

HEAVY = ("torch", "polars", "sklearn", "PIL", "altair", "torchvision", "timm", "accelerate", "vl_convert", "scipy")
HEAVY += ("latex2mathml",)
MODULES = [
    "core.artifacts",
    "weights",
    "metrics",
    "workflow.dataset",
    "workflow.audit",
    "workflow.strategy",
    "workflow.evaluation",
    "workflow.training.settings",
]
HELP = "import sys; sys.argv = ['counterpoise', {}'--help']; from counterpoise.cli import main\ntry: main()\n"
LIGHT = {
    "counterpoise": "import counterpoise",
    **{name: f"import counterpoise.{name}" for name in (*MODULES, "workflow.report")},
    "--help": HELP.format("") + "except SystemExit: pass",
    "compare --help": HELP.format("'compare', ") + "except SystemExit: pass",
}


def loaded(code: str) -> set[str]:
    tail = "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("what", LIGHT)
def test_it_loads_nothing_heavy(what):
    assert loaded(LIGHT[what]).isdisjoint(HEAVY)


def test_the_look_at_sys_modules_sees_torch():
    assert "torch" in loaded("import counterpoise; counterpoise.losses")


def test_every_subpackage_is_reachable():
    import counterpoise

    for info in pkgutil.iter_modules(counterpoise.__path__):
        if info.ispkg and info.name != "cli":  # a program, not an interface
            assert getattr(counterpoise, info.name).__name__ == f"counterpoise.{info.name}"


def test_names_load_on_first_use_and_are_listed():
    import counterpoise

    assert set(counterpoise.__all__) <= set(dir(counterpoise))
    for name in counterpoise.__all__:
        assert getattr(counterpoise, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        counterpoise.lode  # noqa: B018
