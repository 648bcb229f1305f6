"""The command: what it prints, writes and refuses. Every run is in this process unless it has to be stopped."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import tritium
from tritium import models
from tritium.probe.cli import main
from tritium.tensor.serialization import load_safetensors, safetensors_metadata

SMALL = ["--arch", "resnet18", "--weights", "none", "--image-size", "32", "--epochs", "4", "--lr", "0.05",
         "--batch-size", "8"]


def refused(capsys, *arguments):
    """The one line on stderr of a command that must end with exit code 2."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2, captured
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tritium"), captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def probe(*arguments):
    return main(["probe", *[str(a) for a in arguments]])


# ------------------------------------------------------------------------------------------ the embedded default

def test_the_default_learns_ten_digits_and_compares(capsys, tmp_path):
    started = time.perf_counter()
    assert probe("--out", tmp_path / "run") == 0
    assert time.perf_counter() - started < 60
    text = capsys.readouterr().out
    assert "raw pixels" in text and "untrained backbone" in text and "pre-trained backbone" in text
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    raw, untrained, trained = report["compared"]
    assert trained["top1"] == report["top1"] > 0.955
    assert raw["top1"] < trained["top1"] - 0.03 and untrained["top1"] < trained["top1"] - 0.03
    assert trained["digits 5-9"] > 0.94   # classes that the backbone never saw
    assert np.array(report["confusion"]).sum() == 360
    assert report["images"] == {"train": 1437, "val": 360, "skipped": []}


def test_json_is_all_that_is_printed(capsys):
    assert probe("--json", "--epochs", 2) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["recipe"]["epochs"] == 2
    assert captured.err == ""


def test_quiet(capsys):
    assert probe("--quiet", "--epochs", 1) == 0
    assert capsys.readouterr().out.startswith("top-1 ") and len(capsys.readouterr().out.splitlines()) <= 1


def test_two_runs_write_the_same_bytes(tmp_path, capsys):
    for name in ("a", "b"):
        cache = tmp_path / f"cache-{name}"
        assert probe("--epochs", 5, "--seed", 7, "--out", tmp_path / name, "--cache-dir", cache) == 0
    for file in ("head.safetensors", "metrics.jsonl", "checkpoint.pt", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("a", "b")]
    assert [report.pop("seconds") for report in reports]
    assert reports[0] == reports[1]
    assert probe("--epochs", 5, "--seed", 8, "--out", tmp_path / "c") == 0
    assert (tmp_path / "c" / "head.safetensors").read_bytes() != (tmp_path / "a" / "head.safetensors").read_bytes()


@pytest.mark.parametrize("option", ["--arch=resnet18", "--weights=none", "--image-size=32", "--val-split=0.5",
                                    "--augment", "--skip-bad", "--num-classes=10"])
def test_options_that_need_a_folder(capsys, option):
    assert "needs DATA" in refused(capsys, "probe", option)


# --------------------------------------------------------------------------------------------------- image folders

def test_a_folder_with_train_and_val(folder, capsys, tmp_path):
    out = tmp_path / "run"
    assert probe(folder, *SMALL, "--out", out) == 0
    text = capsys.readouterr().out
    assert "36 images to learn from, 15 for validation, 3 classes" in text
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["lr"] == 0.05 and rows[2]["lr"] == pytest.approx(0.025)   # cosine
    head = load_safetensors(out / "head.safetensors")
    assert {name: tuple(t.shape) for name, t in head.items()} == {"fc.weight": (3, 512), "fc.bias": (3,)}
    about = json.loads(safetensors_metadata(out / "head.safetensors")["probe"])
    assert about["classes"] == ["blue", "green", "red"] and about["arch"] == "resnet18"
    assert "CenterCrop" in about["transform"]
    report = json.loads((out / "report.json").read_text())
    assert report["top1"] == rows[-1]["top1"] and set(report["per_class"]) == {"blue", "green", "red"}
    # the head fits into the model it was made for
    model = models.resnet18(num_classes=3)
    assert not model.load_state_dict(head, strict=False).unexpected_keys


def test_class_folders_alone_are_divided_always_alike(folder, capsys, tmp_path):
    for name in ("a", "b"):
        assert probe(folder / "train", *SMALL, "--seed", 1, "--val-split", 0.25, "--out", tmp_path / name) == 0
    assert "27 images to learn from, 9 for validation" in capsys.readouterr().out
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("a", "b")]
    assert configs[0] == configs[1]


def test_a_path_and_a_name_of_weights(folder, capsys, tmp_path, home):
    tritium.manual_seed(5)
    state = models.resnet18().state_dict()
    path = tmp_path / "weights.pth"
    tritium.save({"state_dict": {"module." + name: tensor for name, tensor in state.items()}}, path)
    assert probe(folder, *SMALL, "--weights", path, "--out", tmp_path / "a") == 0
    published = home / "hub" / "checkpoints" / "resnet18-5c106cde.pth"   # the older name of the file
    published.parent.mkdir(parents=True)
    tritium.save(state, published)
    assert probe(folder, *SMALL, "--weights", "IMAGENET1K_V1", "--out", tmp_path / "b") == 0
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


def test_optimizers_schedules_and_warmup(folder, capsys, tmp_path):
    rates = {}
    for name, options in {"lars": ["--optimizer", "lars", "--lr", "2"], "step": ["--schedule", "step", "--epochs", "6"],
                          "none": ["--schedule", "none", "--warmup", "3", "--weight-decay", "0.01"]}.items():
        assert probe(folder, *SMALL, *options, "--out", tmp_path / name) == 0
        rates[name] = [json.loads(line)["lr"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert rates["step"] == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])
    assert rates["none"] == pytest.approx([0.0125, 0.025, 0.0375, 0.05])
    assert rates["lars"][0] == 2


# --------------------------------------------------------------------------------------------------------- refusals

def test_missing_folder(capsys, tmp_path):
    assert refused(capsys, "probe", tmp_path / "nothing").endswith(f"no such folder: {tmp_path / 'nothing'}")
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(capsys, "probe", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in refused(capsys, "probe", tmp_path / "empty")


def test_class_without_images(capsys, folder):
    (folder / "train" / "mauve").mkdir()
    (folder / "train" / "mauve" / "notes.txt").write_text("none yet")
    assert "class mauve has no images in" in refused(capsys, "probe", folder, *SMALL)


def test_unreadable_image_is_named_or_skipped(capsys, folder, tmp_path):
    bad = folder / "train" / "red" / "003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    out = tmp_path / "run"
    line = refused(capsys, "probe", folder, *SMALL, "--out", out)
    assert str(bad) in line and "--skip-bad" in line
    assert not out.exists()   # so that the same command works once the image is repaired
    assert probe(folder, *SMALL, "--skip-bad", "--out", out) == 0
    captured = capsys.readouterr()
    assert "skipped 1 images" in captured.err and str(bad) in captured.err
    assert json.loads((out / "report.json").read_text())["images"] == {"train": 35, "val": 15, "skipped": [str(bad)]}
    # the features that leave it out are in the cache now, and are no way around the refusal
    assert str(bad) in refused(capsys, "probe", folder, *SMALL)
    assert str(bad) in refused(capsys, "probe", folder, *SMALL, "--no-cache")
    assert probe(folder, *SMALL, "--skip-bad", "--no-cache", "--epochs", 1) == 0


def test_a_class_of_which_no_image_can_be_read(capsys, folder):
    for path in (folder / "train" / "red").iterdir():
        path.write_bytes(b"no image")
    line = refused_last_line(capsys, "probe", folder, *SMALL, "--skip-bad")
    assert "class red has no training image that can be read" in line


def refused_last_line(capsys, *arguments):
    """As ``refused``, where warnings go before it."""
    assert main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_checkpoint_that_does_not_fit(capsys, folder, tmp_path):
    state = models.resnet18().state_dict()
    tritium.save(state, tmp_path / "r18.pth")
    arguments = ["probe", folder, "--image-size", 32, "--weights", tmp_path / "r18.pth", "--arch"]
    line = refused(capsys, *arguments, "resnet34")
    assert "r18.pth does not fit resnet34: missing layer1.2.conv1.weight" in line and "more" in line
    line = refused(capsys, *arguments, "resnet50")
    assert "layer1.0.conv1.weight is [64, 64, 3, 3] and should be [64, 64, 1, 1]" in line
    state["layer1.0.extra"] = state.pop("layer1.0.bn1.bias")
    tritium.save(state, tmp_path / "r18.pth")
    line = refused(capsys, *arguments, "resnet18")
    assert "missing layer1.0.bn1.bias" in line and "unexpected layer1.0.extra" in line
    (tmp_path / "r18.pth").write_bytes(b"garbage")
    assert "r18.pth" in refused(capsys, *arguments, "resnet18")
    tritium.save([1, 2], tmp_path / "r18.pth")
    assert "holds no state dict" in refused(capsys, *arguments, "resnet18")
    assert "no such file" in refused(capsys, "probe", folder, "--weights", tmp_path / "no.pth")
    line = refused(capsys, "probe", folder, "--weights", "IMAGENET2K")
    assert "IMAGENET2K" in line and "IMAGENET1K_V1" in line
    line = refused(capsys, "probe", folder, "--arch", "resnet19")
    assert "resnet19" in line and "resnet18" in line


def test_the_head_of_a_checkpoint_does_not_matter(capsys, folder, tmp_path):
    state = models.resnet18(num_classes=7).state_dict()
    tritium.save(state, tmp_path / "seven.pth")
    assert probe(folder, *SMALL, "--weights", tmp_path / "seven.pth") == 0
    tritium.save({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "none.pth")
    assert probe(folder, *SMALL, "--weights", tmp_path / "none.pth") == 0


def test_wrong_number_of_classes(capsys, folder, tmp_path):
    line = refused(capsys, "probe", folder, *SMALL, "--num-classes", 10)
    assert "--num-classes is 10" in line and "3 classes: blue, green, red" in line
    (folder / "val" / "red").rename(folder / "val" / "rouge")
    line = refused(capsys, "probe", folder, *SMALL)
    assert "red only in" in line and "rouge only in" in line
    only = tmp_path / "only" / "cat"
    only.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (8, 8)).save(only / f"{i}.png")
    assert "1 class (cat)" in refused(capsys, "probe", tmp_path / "only", *SMALL)


def test_a_loss_that_is_no_number(capsys, folder, tmp_path):
    line = refused(capsys, "probe", folder, *SMALL, "--lr", "1e38", "--quiet", "--out", tmp_path / "run")
    assert "loss became" in line and "learning rate" in line
    state = models.resnet18().state_dict()
    state["conv1.weight"][0] = float("nan")
    tritium.save(state, tmp_path / "nan.pth")
    assert "NaN or infinite features" in refused(capsys, "probe", folder, *SMALL, "--quiet", "--weights",
                                                 tmp_path / "nan.pth")


@pytest.mark.parametrize(("arguments", "text"), [
    pytest.param(["--device", "cuda"], "Found no NVIDIA driver", marks=pytest.mark.cpu_only(reason="there is a device")),
    (["--device", "tpu"], "tpu"), (["--lr", "-1"], "positive"),
    (["--lr", "nan"], "positive"), (["--epochs", "0"], "--epochs"), (["--batch-size", "1.5"], "--batch-size"),
    (["--momentum", "1"], "--momentum"), (["--seed", "-1"], "--seed"), (["--optimizer", "adam"], "adam"),
    (["--schedule", "linear"], "linear"), (["--warmup", "99"], "warmup"), (["--resume"], "--out"),
    (["--bogus"], "bogus"),
    (["--cache-dir", "x", "--no-cache"], "exclude"), (["--weight-decay", "-0.1"], "--weight-decay")])
def test_bad_options(capsys, arguments, text):
    assert text in refused(capsys, "probe", *arguments)


def test_augment_needs_no_cache(capsys, folder):
    assert "--augment needs --no-cache" in refused(capsys, "probe", folder, *SMALL, "--quiet", "--augment")
    assert probe(folder, *SMALL, "--augment", "--no-cache", "--epochs", 2) == 0


def test_no_command(capsys):
    assert "COMMAND" in refused(capsys)
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and tritium.__version__ in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ folders of runs

def test_a_folder_that_holds_a_run(capsys, tmp_path):
    assert probe("--epochs", 2, "--out", tmp_path / "run") == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert "holds another run" in refused(capsys, "probe", "--quiet", "--epochs", 2, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("x")
    assert "--out" in refused(capsys, "probe", "--quiet", "--out", tmp_path / "file")


def test_resume_needs_the_same_run(capsys, tmp_path):
    assert "there is no run" in refused(capsys, "probe", "--quiet", "--resume", "--out", tmp_path / "run")
    assert probe("--quiet", "--epochs", 2, "--out", tmp_path / "run") == 0
    line = refused(capsys, "probe", "--quiet", "--epochs", 3, "--resume", "--out", tmp_path / "run")
    assert "another epochs: it was 2 and is 3" in line
    assert probe("--epochs", 2, "--resume", "--out", tmp_path / "run") == 0   # finished: the results again
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"torn")
    assert "checkpoint.pt can not be used" in refused(capsys, "probe", "--quiet", "--epochs", 2, "--resume", "--out",
                                                      tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_interrupted_and_resumed_is_as_if_nothing_had_happened(tmp_path, monkeypatch, capsys, optimizer):
    options = ["--quiet", "--epochs", 6, "--optimizer", optimizer, "--warmup", 2]
    assert probe(*options, "--out", tmp_path / "whole") == 0
    from tritium.probe.workflow import RunFolder
    keep, done = RunFolder.keep, []

    def stop_after_three(self, head):
        keep(self, head)
        done.append(1)
        if len(done) == 3:
            with open(self.metrics, "a") as file:   # as if the next epoch had been cut off while it was written down
                file.write('{"epoch": 4, "lr')
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "keep", stop_after_three)
    assert probe(*options, "--out", tmp_path / "parts") == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setattr(RunFolder, "keep", keep)
    assert probe(*options, "--resume", "--out", tmp_path / "parts") == 0
    for file in ("head.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    states = [tritium.load(tmp_path / name / "checkpoint.pt")["optimizer"]["state"] for name in ("whole", "parts")]
    for number, state in states[0].items():
        assert state["momentum_buffer"].equal(states[1][number]["momentum_buffer"])


def test_interrupted_before_the_first_epoch(tmp_path, monkeypatch, capsys):
    from tritium.probe import workflow

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "cached_features", stop)
        assert probe("--quiet", "--epochs", 2, "--out", tmp_path / "run") == 130
    assert "holds another run" in refused(capsys, "probe", "--quiet", "--epochs", 2, "--out", tmp_path / "run")
    assert probe("--quiet", "--epochs", 2, "--resume", "--out", tmp_path / "run") == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_cache_that_can_not_be_written_is_told_once(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert probe("--quiet", "--epochs", 1, "--cache-dir", tmp_path / "file") == 0
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "warning: the features are not kept" in errors[0]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c(tmp_path):
    command = [sys.executable, "-m", "tritium", "probe", "--epochs", "100000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    metrics, checkpoint = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "checkpoint.pt"
    deadline = time.time() + 60
    while time.time() < deadline and not checkpoint.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1 and "--resume" in errors
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    state = tritium.load(checkpoint)
    assert rows[:len(state["history"])] == state["history"] and len(rows) - len(state["history"]) in (0, 1)
