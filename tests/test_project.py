"""The files around the library agree with it and with each other."""
import json
import re
import subprocess
import sys
import textwrap

import pytest
import torch
import yaml
from packaging.requirements import Requirement

from paperlib import quantizers
from paperlib.quantizers import registry
from paperlib.recipes import profiles
from paperlib.system.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

CONDA_NAME = {"torch": "pytorch-cpu"}       # where conda-forge has another name


def declared(extra=None):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [Requirement(line) for line in lines]


def lock_lines():
    return (ROOT / "requirements.lock").read_text().splitlines()


def test_lock_pins_every_package_without_addresses():
    for line in lock_lines():
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", line), line
    assert not [line for line in lock_lines() if "://" in line]


def test_the_three_package_lists_agree():
    locked = {}
    for line in lock_lines():
        pin = Requirement(line)
        locked.setdefault(pin.name, []).append(str(pin.specifier)[2:])
    conda = re.findall(r"^  - ([\w.-]+)$", (ROOT / "environment.yml").read_text(), re.M)
    for requirement in declared() + declared("site"):
        versions = locked.get(requirement.name)
        assert versions, f"{requirement.name} is not in requirements.lock"
        assert all(v in requirement.specifier for v in versions), (str(requirement), versions)
    wanted = {CONDA_NAME.get(r.name, r.name) for r in declared()}
    assert wanted == set(conda) - {"pip", "conda-forge"}


def test_citation_and_devcontainer_agree_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert [citation[key] for key in ("version", "license", "abstract")] == [
        project[key] for key in ("version", "license", "description")]
    readme = (ROOT / "README.md").read_text().partition("## Cite")[2]
    for paper in citation["references"]:
        assert paper["title"] in readme and paper["identifiers"][0]["value"] in readme
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert re.search(rf"- {container['image'].replace(':', '=')}$", (ROOT / "environment.yml").read_text(), re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert f"READY    := {container['postCreateCommand'].removeprefix('make ')}\n" in makefile


def test_every_folder_of_the_library_is_packaged():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in (ROOT / "paperlib").rglob("*.py")}
    assert set(packages) == folders


def test_makefile_knows_every_profile_and_no_other():
    line = next(x for x in (ROOT / "Makefile").read_text().splitlines() if x.startswith("PROFILES"))
    assert set(line.split(":=")[1].split()) == set(profiles.names())


@pytest.mark.parametrize("command", ["figure", "refresh", "train", "prepare", "record", "repeat", "runs", "export",
                                     "data", "check-env"])
def test_every_command_has_help(command, paperlib):
    code, text, _ = paperlib(command, "--help")
    assert code == 0 and text.startswith("usage:")


@pytest.mark.parametrize("words", [["train", "--help"], ["figure", "nothing"]])
def test_a_process_of_its_own_says_the_same(words, paperlib):
    done = subprocess.run([sys.executable, "-m", "paperlib", *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == paperlib(*words)


@pytest.mark.parametrize("words, cause", [
    (["figure", "profit_supp_fig2_pact_vs_duq", "--profile", "huge"], "unknown profile 'huge': choose from smoke"),
    (["figure", "profit_supp_fig2_pact_vs_duq", "--profile", "imagenet"], "holds no ImageNet; put train/ and val/"),
    (["figure", "nothing"], "no notebook 'nothing': choose from"),
    (["figure", "profit_supp_fig2_pact_vs_duq", "-p", "sedes", "3"], "no parameter 'sedes': it has profile, seeds"),
    (["figure", "profit_supp_fig2_pact_vs_duq", "-p", "seeds", "3.5"], "'seeds' of notebook .* is of type int"),
    (["train", "--w-bits", "9", "--profile", "smoke"], "bits must be a whole number from 1 to 8"),
    (["train", "--model", "alexnet99", "--profile", "smoke"], "unknown model 'alexnet99': choose from"),
    (["data", "--source", "ftp"], "unknown data source 'ftp'"),
])
def test_bad_input_is_one_line_with_cause_and_cure(words, cause, tmp_path, monkeypatch, paperlib):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    code, _, errors = paperlib(*words)
    errors = errors.rpartition("\r")[2]     # what a clock wrote, which a slow machine gets to see, is wiped away
    assert code == 2 and re.search(cause, errors) and len(errors.strip().splitlines()) == 1, errors
    assert not list(tmp_path.iterdir())


def test_the_example_in_contributing_is_a_whole_method(monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = textwrap.dedent(text.split("```python\n")[1].split("```")[0]).replace("from .", "from paperlib.quantizers.")
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    exec(code, {"__name__": "sigma"})
    x = torch.linspace(-2, 3, 97).reshape(-1, 1, 1, 1).requires_grad_()
    q = quantizers.build("sigma", role="weight", bits=4).calibrate(x)
    y = q(x)
    y.sum().backward()
    assert len(q.levels()) == 15 and torch.equal(q.decode(q.encode(x)), y)
    assert torch.equal(x.grad, (x.abs() < 3 * x.std()).float()) and "sigma" in quantizers.names("weight")
