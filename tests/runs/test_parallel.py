"""What several recipes share is trained once, and nothing before what it goes on from."""
import dataclasses
import io
import json
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from paperlib.claims import contents
from paperlib.errors import InputError
from paperlib.recipes import Recipe, activations_then_weights, profit
from paperlib.runs import parallel
from paperlib.runs.loading import resolve
from paperlib.runs.phase_store import StoredPhase
from paperlib.training.phases import Phase


@pytest.fixture(autouse=True)
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))


def recipe(*phases):
    """A float recipe; a phase is "name epochs"."""
    phases = [Phase(text.split()[0], int(text.split()[1]), lr=0.1) for text in phases]
    return Recipe.of("smoke", phases[-1].name, "vgg7", 0, phases)


def chains(recipes):
    return [StoredPhase.chain(recipe) for recipe in recipes]


@pytest.mark.parametrize("cores, free, threads, most", [(8, 64, 1, 8), (8, 7.9, 1, 3), (8, 64, 3, 2), (8, 64, 0, 1),
                                                        (8, 0.5, 1, 1), (1, 64, 2, 1)])
def test_as_many_trainings_as_have_cores_and_memory(monkeypatch, tmp_path, cores, free, threads, most):
    monkeypatch.setattr(parallel.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free * 2**30)))
    wanted = [dataclasses.replace(recipe("float 1"), threads=n) for n in (1, threads)]
    monkeypatch.setattr(parallel, "LIMIT", tmp_path / "memory.max")
    assert parallel.at_a_time(wanted) == most
    photographs = dataclasses.replace(wanted[0], data="imagenette")
    assert parallel.at_a_time([*wanted, photographs]) == min(most, max(1, free // 3))
    parallel.LIMIT.write_text("max")
    assert parallel.at_a_time(wanted) == most
    parallel.LIMIT.write_text(str(4 * 2**30))
    (tmp_path / "memory.current").write_text(str(2**30))
    assert parallel.at_a_time(wanted) == 1
    monkeypatch.setattr(parallel.torch.cuda, "is_available", lambda: True)
    assert parallel.at_a_time(wanted) == 1


def shown(found):
    """(phases of a job, what it comes after, its epochs, the longest way from its beginning)"""
    names = {key: " ".join(p.name for p in s.recipe.phases) for key, s in found.items()}
    return [(names[key], names.get(s.after), s.epochs, s.ahead) for key, s in found.items()]


TREE = [recipe("a 3", "b 2", "c 1"), recipe("a 3", "b 2", "d 5", "e 7"), recipe("a 3", "b 2"), recipe("x 4")]


def test_stretches_end_where_recipes_end_or_part():
    assert shown(parallel.training_jobs(chains(TREE))) == [
        ("a b", None, 5, 17), ("a b c", "a b", 1, 1), ("a b d e", "a b", 12, 12), ("x", None, 4, 4)]


def test_the_same_recipe_twice_is_one():
    assert len(parallel.training_jobs(chains([TREE[3], dataclasses.replace(TREE[3], label="again")]))) == 1


def done(link):
    link.folder.mkdir(parents=True)
    (link.folder / "final.pt").write_text("")


def test_what_is_there_is_not_trained_again():
    for i in (0, 1):
        done(StoredPhase(TREE[0], i))
    assert shown(parallel.training_jobs(chains(TREE))) == [
        ("a b c", None, 1, 1), ("a b d e", None, 12, 12), ("x", None, 4, 4)]


def test_a_stretch_that_broke_off_within_is_one_still():
    done(StoredPhase(TREE[0], 0))
    assert shown(parallel.training_jobs(chains(TREE[:1]))) == [("a b c", None, 6, 6)]


def test_real_recipes_share_what_they_begin_with():
    recipes = [resolve(r) for r in (profit(profile="smoke"), profit(profile="smoke", order="none"),
                                    activations_then_weights("duq", profile="smoke"))]
    found = list(parallel.training_jobs(chains(recipes)).values())
    assert [s.recipe.phases[-1].name for s in found][0] == "float" and len(found) == 5
    total = sum(p.epochs for r in recipes for p in r.phases)
    shared = sum(p.epochs for p in recipes[0].phases[:1]) * 2 + found[1].epochs
    assert sum(s.epochs for s in found) == total - shared


def test_ready_jobs_go_on_from_nothing_that_is_still_to_come():
    waiting = parallel.training_jobs(chains([*reversed(TREE)]))
    names = {key: " ".join(phase.name for phase in job.recipe.phases) for key, job in waiting.items()}

    def ready(running=(), **options):
        return [names[key] for key in parallel.ready_jobs(waiting, running, **options)]

    assert ready() == ["a b", "x"] and ready(longest_first=False) == ["x", "a b"]
    shared = next(key for key, name in names.items() if name == "a b")
    del waiting[shared]
    assert ready(running=[shared]) == ["x"] and ready() == ["a b d e", "x", "a b c"]


class Worker:
    """A process that trains in no time: it leaves the files of a finished phase."""
    running, most, order, lock = 0, 0, [], threading.Lock()
    returncode = 0

    def __init__(self, *args, **options):
        self.stdin = io.StringIO()
        self.stdout = iter(())

    def wait(self):
        told = Recipe.from_dict(json.loads(self.stdin.getvalue())[1])
        chain = StoredPhase.chain(told)
        with self.lock:
            Worker.running += 1
            Worker.most = max(Worker.most, Worker.running)
            Worker.order.append(" ".join(p.name for p in told.phases))
        time.sleep(0.05 * len(chain))
        for link in chain:
            if not link.done:
                done(link)
        with self.lock:
            Worker.running -= 1
        return 0

    def terminate(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_longest_way_first_and_nothing_before_its_beginning(workers, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Worker)
    Worker.running, Worker.most, Worker.order = 0, 0, []
    parallel.train(chains(TREE), workers)
    assert Worker.most == min(workers, 2)
    assert all(StoredPhase.chain(r)[-1].done for r in TREE) and parallel.training_jobs(chains(TREE)) == {}
    first = 1 if workers == 1 else 2        # which of two threads says first that it runs is not settled
    assert "a b" in Worker.order[:first] and set(Worker.order) == {"a b", "a b c", "a b d e", "x"}
    assert Worker.order.index("a b d e") < Worker.order.index("a b c")


def test_against_the_clock_whole_runs_come_first(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Worker)
    Worker.order = []
    parallel.train(chains(TREE), 1, until=time.monotonic() + 60)
    assert Worker.order == ["a b", "a b c", "a b d e", "x"]


def test_what_fails_takes_along_what_goes_on_from_it_alone(monkeypatch, capsys):
    class Failing(Worker):
        def wait(self):
            names = [p.name for p in Recipe.from_dict(json.loads(self.stdin.getvalue())[1]).phases]
            if names in (["a", "b", "d"], ["a", "b", "c"]):
                self.returncode = -9
                return -9
            return super().wait()

    monkeypatch.setattr(subprocess, "Popen", Failing)
    Worker.order, calls = [], []
    tree = [recipe(*(f"{name} 1" for name in names)) for names in ("abc", "abdef", "abdeg", "x")]
    tree.append(recipe("a 1", "b 1", "d 1"))
    with pytest.raises(InputError, match="(?s)2 trainings failed:.*killed by signal 9, perhaps for want of memory"):
        parallel.train(chains(tree), 2, each=lambda: calls.append(len(Worker.order)))
    assert sorted(Worker.order) == ["a b", "x"] and len(calls) >= 3
    assert capsys.readouterr().err.count("failed, the others go on") == 2


def test_all_figures_together_are_listed_for_every_profile():
    for profile in ("smoke", "laptop", "cifar10"):
        recipes = [r for r, _ in contents.needed(profile)]
        assert any(not r.recorded for r in recipes)
    assert all(r.recorded for r, _ in contents.needed("recorded"))
