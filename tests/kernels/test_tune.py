"""``tritium tune`` and its tables: what is looked up, what is ignored, what a search takes. No times are measured here:
they are made up."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tritium.kernels.runtime.base import Properties
from tritium.kernels.tuning import problems, search, table
from tritium.kernels.tuning.planning import Code
from tritium.kernels.tuning.problems import Problem
from tritium.probe.cli import main

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")

GPU = Properties("NVIDIA Test 80GB", 9, 0, 80 << 30, 132)
KEY = ("matmul", "half NT 64x64 4096")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: Any) -> tuple[Path, Path]:
    """The files of the package's table and of the user's."""
    monkeypatch.setattr(table, "PACKAGE", tmp_path / "package")
    monkeypatch.setenv("TRITIUM_CACHE_DIR", str(tmp_path / "cache"))
    table.forget()
    yield tmp_path / "package" / "nvidia-test-80gb.json", tmp_path / "cache" / "tuned" / "nvidia-test-80gb.json"
    table.forget()


def entry(*choice: int) -> dict[str, Any]:
    return {"choice": list(choice), "us": 1.0, "before": 2.0}


def find(key: str = KEY[1], family: str = "matmul", properties: Any = GPU, emulated: bool = False) -> Any:
    return table.find(family, key, properties, emulated, lambda c: c if c[0] > 0 else None, lambda: [])


# --- tables ---

def test_without_tables_nothing_is_found(folders: Any) -> None:
    assert find() is None


def test_what_is_written_is_found_and_the_user_s_comes_first(folders: Any) -> None:
    package, user = folders
    table.merge(package, GPU, {KEY: entry(1, 2), ("conv", "x 7"): entry(3)})
    assert find() == (1, 2) and find("x 7", "conv") == (3,)
    table.merge(user, GPU, {KEY: entry(4, 5)})
    assert find() == (1, 2)  # read once
    table.forget()
    assert find() == (4, 5) and find("x 7", "conv") == (3,)
    assert find(emulated=True) is None


def test_files_are_merged_and_entries_taken_out(folders: Any) -> None:
    _, user = folders
    assert table.merge(user, GPU, {KEY: entry(1), ("conv", "a 1"): entry(2)}) == 2
    assert table.merge(user, GPU, {("conv", "b 1"): entry(3), KEY: None}) == 2
    content = json.loads(user.read_text())
    assert content["gpu"] == GPU.name and set(content["families"]) == {"conv"}
    assert [f.name for f in user.parent.iterdir()] == [user.name]  # no temporary files stay
    assert len(user.read_text().splitlines()) == 12  # a line for each entry


def test_a_size_nearby_shares_an_entry(folders: Any) -> None:
    _, user = folders
    table.merge(user, GPU, {("matmul", "a 1000"): entry(1), ("matmul", "a 2000"): entry(2)})
    assert find("a 1000") == (1,) and find("a 1200") == (1,) and find("a 1700") == (2,)
    assert find("a 1400") is None and find("a 3000") is None and find("b 1000") is None and find("a 0") is None


def test_tables_are_of_one_kind_of_gpu(folders: Any) -> None:
    _, user = folders
    table.merge(user, GPU, {KEY: entry(1)})
    smaller = Properties(GPU.name, 9, 0, 80 << 30, 66)
    with pytest.warns(UserWarning, match="multiprocessors 132, not 66"):
        assert find(properties=smaller) is None
    assert find(properties=Properties("Other", 9, 0, 80 << 30, 132)) is None
    assert find() == (1,)


@pytest.mark.parametrize("text, words", [
    ("", "can not be read"), ("{", "can not be read"), ("[]", "does not fit"), ("null", "does not fit"),
    ("{}", "does not fit"), ('{"format": 0}', "format 0, not 1"), ("\x00\xff", "can not be read")])
def test_a_damaged_table_is_ignored_with_one_warning(folders: Any, text: str, words: str) -> None:
    package, user = folders
    table.merge(package, GPU, {KEY: entry(1)})
    user.parent.mkdir(parents=True)
    user.write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match=words) as seen:
        assert find() == (1,)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find() == (1,)
    table.merge(user, GPU, {KEY: entry(2)})  # written anew
    table.forget()
    assert find() == (2,)


def test_entries_of_another_version_or_form_do_not_count(folders: Any) -> None:
    _, user = folders
    table.merge(user, GPU, {KEY: entry(1), ("conv", "a 1"): entry(2)})
    content = json.loads(user.read_text())
    content["families"]["matmul"]["version"] = 99
    user.write_text(json.dumps(content))
    assert find() is None and find("a 1", "conv") == (2,)
    content["families"]["conv"]["entries"]["a 1"]["choice"] = ["x"]
    user.write_text(json.dumps(content))
    table.forget()
    with pytest.warns(UserWarning, match="does not fit"):
        assert find("a 1", "conv") is None


def test_a_choice_that_kernels_can_not_take_is_ignored_with_one_warning(folders: Any) -> None:
    _, user = folders
    table.merge(user, GPU, {KEY: entry(-1), ("matmul", "b 1"): entry(-1)})
    with pytest.warns(UserWarning, match="can not take") as seen:
        assert find() is None and find("b 1") is None
    assert len(seen) == 1


def test_a_folder_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        table.merge(tmp_path / "file" / "t.json", GPU, {KEY: entry(1)})


# --- what the kernels' choices make of them ---

def choose(**more: Any) -> Any:
    from tritium.kernels.triton import matmul_configs

    matmul_configs.choose.cache_clear()
    given = {"kind": "half", "item": 2, "M": 512, "N": 512, "K": 4096, "batch": 1, "properties": GPU, "hip": False,
             "emulated": False, "vectors": True, "copied": True, "heavy": False, **more}
    return matmul_configs.choose(*given.values())


def test_products_take_what_a_table_says(folders: Any) -> None:
    from tritium.kernels.triton import matmul_configs

    key = "half 2 NT 512x4096 batch 1 vectors copied 512"
    before = choose()
    table.merge(folders[1], GPU, {("matmul", key): entry(64, 64, 128, 4, 3, 0, 2)})
    table.forget()
    tile, parts = choose()
    assert (matmul_configs.shape_of(tile), parts) == ((64, 64, 128, 4, 3, False), 2) != before
    assert choose(heavy=True) == matmul_configs.estimate("half", 2, 512, 512, 4096, 1, GPU, False, False, True, True, True)
    assert choose(M=640)[1] == 2 and choose(M=1024) != (tile, parts)
    for wrong in ((64, 64, 1024, 4, 3, 0, 2), (64, 64, 128, 4, 3, 0, 0), (64, 64, 128, 4, 3, 0, 10**6), (1, 2),
                  (128, 256, 64, 8, 4, 1, 2)):
        table.merge(folders[1], GPU, {("matmul", key): entry(*wrong)})
        table.forget()
        with pytest.warns(UserWarning, match="can not take"):
            assert choose() == before
    matmul_configs.choose.cache_clear()


def test_convolutions_take_what_a_table_says(folders: Any) -> None:
    from tritium.kernels.triton import conv_configs as configs

    sizes = ("half", 2, 50176, 128, 128, 9, 1, GPU, False, False, True)
    before = configs.forward(*sizes, False), configs.weight(*sizes), configs.direct(2, 5000, 96, 9, GPU, False)
    table.merge(folders[1], GPU, {
        ("conv", "forward half 2 128x128 taps 9 groups 1 vectors 50176"): entry(64, 128, 32, 4, 3, 1),
        ("conv", "weight half 2 128x128 taps 9 groups 1 vectors 50176"): entry(128, 128, 64, 8, 2, 5),
        ("conv", "direct 2 96 weight 9 5000"): entry(32, 32, 4, 7)})
    table.forget()
    for f in (configs.forward, configs.weight, configs.direct):
        f.cache_clear()
    after = configs.forward(*sizes, False), configs.weight(*sizes), configs.direct(2, 5000, 96, 9, GPU, False)
    assert after[0].tile.m == 64 and after[1].parts == 5 and after[2] == (32, 32, 4, 7)
    assert all(a != b for a, b in zip(after, before, strict=True))
    for f in (configs.forward, configs.weight, configs.direct):
        f.cache_clear()


def test_every_candidate_can_be_chosen() -> None:
    from tritium.kernels.triton import conv_configs as conv
    from tritium.kernels.triton import matmul_configs

    def ask(kind: str, item: int, vectors: bool) -> None:
        for f in (conv.forward, conv.weight, conv.direct):
            f.cache_clear()
        choose(kind=kind, item=item, vectors=vectors, copied=vectors)
        for C in (3, 24, 256):
            conv.forward(kind, item, 9999, 100, C, 9, 1, GPU, False, False, vectors, False)
            conv.weight(kind, item, 9999, 100, C, 9, 1, GPU, False, False, vectors)
        conv.direct(item, 9999, 96, 9, GPU, False)

    for kind, item in (("half", 2), ("tf32", 4), ("float32", 4), ("float64", 8), ("int8", 1)):
        for vectors in (True, False):
            with table.forcing({}), table.asking() as asked:
                ask(kind, item, vectors)
            assert len(asked) == 8
            every = {key: list(candidates()) for key, candidates in asked.items()}
            for found in every.values():
                assert len(found) == len(set(found)) > 3
            for i in range(30):
                with table.forcing({key: found[i % len(found)] for key, found in every.items()}):
                    ask(kind, item, vectors)  # raises ValueError for what can not be taken
    for f in (matmul_configs.choose, conv.forward, conv.weight, conv.direct):
        f.cache_clear()


# --- the search, with made-up times ---

class Made:
    """A device with made-up times: microseconds by choice, None for the heuristics."""

    def __init__(self, times: dict[Any, float], wrong: tuple[Any, ...] = ()) -> None:
        self.by, self.wrong, self.calls = times, wrong, 0
        self.log: list[Any] = []

    def open(self, problem: Problem) -> None:
        self.log.append("open")

    def close(self) -> None:
        self.log.append("close")

    def right(self, choices: Any) -> bool:
        last = [*choices.values()][-1]
        if last in self.wrong:
            return False
        if last == (666,):
            raise RuntimeError("CUDA error: too many resources requested for launch")
        return True

    def times(self, many: list[Any], rounds: int) -> list[list[float]]:
        self.log.append((len(many), rounds))
        total = sum(self.by[None] for _ in range(1))
        return [[total + sum(self.by[c] - total for c in choices.values()) + 0.001 * r for r in range(rounds)]
                for choices in many]


PROBLEM = Problem("matmul", "nt", (64, 64, 64), "bf16")


def test_the_fastest_right_candidate_is_taken() -> None:
    device = Made({None: 10.0, (1,): 9.0, (2,): 8.0, (3,): 5.0, (4,): 7.0, (5,): 9.5, (6,): 9.9, (7,): 1.0}, wrong=((3,),))
    codes = {(7,): Code(spills=12)}
    outcome, = search.search(device, PROBLEM, {KEY: [(n,) for n in range(1, 8)] + [(666,)]},
                             lambda c: codes.get(next(iter(c.values()), None), Code()))
    assert outcome.choice == (4,) and outcome.before == pytest.approx(10, abs=0.1) and outcome.after == pytest.approx(7, abs=0.1)
    assert outcome.dropped.keys() == {(3,), (7,), (666,)} and outcome.tried == 5
    assert outcome.dropped[3,] == "wrong results" and outcome.dropped[7,] == "12 spills"
    assert "too many resources" in outcome.dropped[666,]
    assert device.log == ["open", (6, search.FIRST), (1 + search.FINALISTS, search.FINAL), "close"]
    assert outcome.entry(triton="3.9.0")["choice"] == [4]


def test_two_per_cent_are_not_enough() -> None:
    for time, taken in ((9.85, False), (9.7, True), (10.5, False)):
        outcome, = search.search(Made({None: 10.0, (1,): time}), PROBLEM, {KEY: [(1,)]}, search.unbuilt)
        assert (outcome.choice is not None) == taken == (outcome.entry() is not None)


def test_spills_that_the_heuristics_have_too_do_not_count() -> None:
    outcome, = search.search(Made({None: 10.0, (1,): 5.0}), PROBLEM, {KEY: [(1,)]}, lambda c: Code(spills=4))
    assert outcome.choice == (1,)
    outcome, = search.search(Made({None: 10.0, (1,): 5.0}), PROBLEM, {KEY: [(1,)]},
                             lambda c: Code(error="does not compile") if c else Code())
    assert outcome.choice is None and outcome.dropped == {(1,): "does not compile"}


def test_later_questions_keep_earlier_choices() -> None:
    other = ("conv", "b 1")
    device = Made({None: 10.0, (1,): 8.0, (2,): 9.0, (3,): 11.0})
    first, second = search.search(device, PROBLEM, {KEY: [(1,), (3,)], other: [(2,), (3,)]}, search.unbuilt)
    assert first.choice == (1,) and second.choice == (2,)
    assert second.before == pytest.approx(8, abs=0.1) and second.after == pytest.approx(7, abs=0.1)


def test_time_runs_out() -> None:
    device = Made({None: 10.0, (1,): 5.0})
    assert search.search(device, PROBLEM, {KEY: [(1,)]}, search.unbuilt, lambda: True) == []
    assert device.log == ["open", "close"] and search.search(device, PROBLEM, {}, search.unbuilt) == []


# --- problems ---

def test_networks_have_the_convolutions_of_the_models() -> None:
    from tritium import models, nn

    for name in problems.NETWORKS:
        found = sorted((c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.groups)
                       for c in getattr(models, name)().modules() if isinstance(c, nn.Conv2d))
        assert found == sorted((s.C, s.O, s.kernel, s.stride, s.groups) for s, n in problems.layers(name).items()
                               for _ in range(n))
    assert [s.H for s in problems.layers("resnet50")][-1] == 7


def test_what_shapes_mean(tmp_path: Path) -> None:
    found = problems.collect(["matmul", "conv"], ["10,20,30"], ["bf16", "tf32"], [64])
    assert [(p.op, p.shape) for p in found if p.dtype == "tf32"] == [("nt", (10, 20, 30)), ("nn", (10, 30, 20)),
                                                                     ("tn", (20, 30, 10))]
    file = tmp_path / "shapes"
    file.write_text("# mine\n10,20,30\n\n2,3,8,8,16,3,1,1,1  # a stem\n")
    assert {p.family for p in problems.collect(["matmul", "conv"], [str(file)], ["bf16"], [])} == {"matmul", "conv"}
    assert not problems.collect(["conv"], ["10,20,30"], ["bf16"], [])
    resnet = problems.collect(["conv"], ["resnet18"], ["bf16"], [32])
    assert {p.op for p in resnet} == set(problems.OPS["conv"]) and all(p.shape[0] == 32 for p in resnet)
    assert not [p for p in resnet if p.op == "dgrad" and p.shape[1] == 3]
    for wrong in ("1,2", "0,2,3", "1,2,3,4", "nothing", "2,3,8,8,16,3,0,1,1", "2,3,8,8,16,3,1,1,2", "2,3,1,1,16,3,1,0,1"):
        with pytest.raises(ValueError):
            problems.collect(["conv"], [wrong], ["bf16"], [])
    file.write_text("10,20,30\nten\n")
    with pytest.raises(ValueError, match="line 2: 'ten'"):
        problems.collect(["conv"], [str(file)], ["bf16"], [])


# --- the command ---

def refused(capsys: Any, *arguments: str) -> str:
    capsys.readouterr()
    try:
        code = main(["tune", *arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2 and captured.err.startswith("tritium tune: "), captured
    assert len(captured.err.splitlines()) == 1
    return captured.err


def test_what_the_command_refuses(capsys: Any, monkeypatch: Any) -> None:
    assert "ten is not" in refused(capsys, "--shapes", "ten")
    assert "nothing to tune" in refused(capsys, "--family", "conv", "--shapes", "1,2,3")
    assert "half" in refused(capsys, "--dtype", "half")
    assert "positive" in refused(capsys, "--seconds", "0")
    assert "not allowed with" in refused(capsys, "--output", "x", "--write-package")


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run([sys.executable, "-m", "tritium", "tune", *arguments], capture_output=True, text=True,
                          env={**env, **settings}, cwd=settings.get("HOME", "/"))


def test_help_and_no_gpu(tmp_path: Path) -> None:
    assert "--dry-run" in run("--help").stdout
    from tritium import cuda

    if os.environ.get("TRITON_INTERPRET") == "1" or not cuda.is_available():
        done = run()
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "driver" in done.stderr, done


def test_a_dry_run_needs_no_gpu() -> None:
    done = run("--dry-run", "--shapes", "4096,4096,1024", "--candidates", "5", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "matmul half 2 NT 4096x1024 batch 1 vectors copied 4096: 5 candidates" in done.stdout
    assert "3 problems, 3 questions, 15 candidates" in done.stdout and "[128, 256, 64, 8, 4, 1, 1]" in done.stdout


def test_a_small_search_on_the_emulated_device(tmp_path: Path) -> None:
    settings = {"TRITON_INTERPRET": "1", "TRITIUM_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    out, log = tmp_path / "table.json", tmp_path / "log.json"
    done = run("--shapes", "40,24,64", "1,16,5,6,24,3,1,1,1", "--candidates", "2", "--json", str(log), **settings)
    assert done.returncode == 0, done.stderr
    assert "nothing is written" in done.stdout and not (tmp_path / "cache" / "tuned").exists()
    outcomes = json.loads(log.read_text())["outcomes"]
    assert len(outcomes) >= 6 and not any(o["dropped"] for o in outcomes), outcomes
    assert {o["family"] for o in outcomes} == {"matmul", "conv"}
    done = run("--family", "matmul", "--op", "nt", "--shapes", "40,24,64", "--quiet", "--output", str(out), **settings)
    assert done.returncode == 0 and not done.stdout and json.loads(out.read_text())["format"] == table.FORMAT
    done = run("--family", "matmul", "--op", "nt", "--shapes", "40,24,64", "--output", str(tmp_path), **settings)
    assert done.returncode == 2 and "can not be written" in done.stderr and len(done.stderr.splitlines()) == 1


def test_other_processes_compile_candidates(tmp_path: Path) -> None:
    """Without a GPU and without launching: the real code of one candidate, and one that does not fit."""
    code = """
from tritium.kernels.tuning import planning, search
from tritium.kernels.tuning.problems import Problem
if __name__ == "__main__":
    workers = planning.Workers(planning.H100, 1, 3)
    problem = Problem("matmul", "nt", (128, 128, 256), "bf16")
    (key, candidates), = workers.questions(problem).result().items()
    built = search.Built(workers, problem, {key: candidates[:1] + [(7, 7, 7, 4, 3, 0, 1)]})
    print(len(candidates), built({}), built({key: candidates[0]}), built({key: (7, 7, 7, 4, 3, 0, 1)}), sep="\\n")
    workers.stop()
"""
    (tmp_path / "script.py").write_text(code)
    env = {**os.environ, "TRITIUM_CACHE_DIR": str(tmp_path / "cache"), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, env=env, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines and lines[0] == "3", done.stderr
    assert "spills=0" in lines[1] and "registers=0" not in lines[1] and "spills=0" in lines[2]
    assert "ValueError" in lines[3] and len(list((tmp_path / "cache").glob("*.kernel"))) >= 1


def test_a_compiler_that_crashes_costs_its_candidate_alone():
    import os

    from tritium.kernels.tuning.planning import H100, Task, Workers

    workers = Workers(H100, 1, 3)
    try:
        bad, good = Task(workers, os.abort), Task(workers, abs, -3)
        assert good.result() == 3
        with pytest.raises(RuntimeError, match="the process crashed"):
            bad.result()
        assert Task(workers, abs, -4).result() == 4
    finally:
        workers.stop()
