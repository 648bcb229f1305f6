"""The head: recipes, training, scores."""
import math

import numpy as np
import pytest

import tritium
from tritium.probe import Features, LinearProbe, ProbeError, Recipe, Scores, probe_features
from tritium.probe.report import confusion, per_class, summary


def blobs(count, classes=4, features=6, seed=0):
    random = np.random.RandomState(seed)
    labels = np.arange(count) % classes
    centres = np.random.RandomState(99).normal(0, 3, (classes, features))
    x = centres[labels] + random.normal(0, 1, (count, features))
    return tritium.from_numpy(x.astype(np.float32)), tritium.from_numpy(labels.astype(np.int64))


@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_learns_and_repeats(optimizer):
    recipe = Recipe(epochs=12, lr=0.1 if optimizer == "sgd" else 20, optimizer=optimizer, batch_size=16)
    tritium.manual_seed(1)
    before = tritium.get_rng_state()
    probe, scores = probe_features(blobs(120), blobs(60, seed=1), recipe=recipe)
    assert scores.top1 > 0.95
    assert tritium.get_rng_state().equal(before)   # the user's random numbers are left alone
    tritium.manual_seed(2)
    again, _ = probe_features(blobs(120), blobs(60, seed=1), recipe=recipe)
    assert again.head.weight.equal(probe.head.weight) and again.history == probe.history
    other, _ = probe_features(blobs(120), blobs(60, seed=1), recipe=Recipe(**{**vars(recipe), "seed": 3}))
    assert not other.head.weight.equal(probe.head.weight)


def test_equal_to_a_loop_by_hand():
    x, y = blobs(40)
    recipe = Recipe(epochs=3, lr=0.2, weight_decay=0.01, batch_size=16, warmup=1)
    probe, _ = probe_features((x, y), (x, y), recipe=recipe)
    with tritium.random.fork_rng():
        tritium.manual_seed(0)
        head = tritium.nn.Linear(6, 4)
    optimizer = tritium.optim.SGD(head.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
    for epoch, rate in enumerate((0.1, 0.2, 0.1)):
        optimizer.param_groups[0]["lr"] = rate
        for positions in recipe.order(epoch, 40).split(16):
            loss = tritium.nn.functional.cross_entropy(head(x[positions]), y[positions])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(probe.head.weight.detach().numpy(), head.weight.detach().numpy(), rtol=1e-6)


def test_state_continues_exactly():
    x, y = blobs(40)
    recipe = Recipe(epochs=5, batch_size=16, schedule="step")
    whole, _ = probe_features((x, y), (x, y), recipe=recipe)
    first = LinearProbe(6, 4, recipe)

    class Stop(Exception):
        pass

    def stop(probe):
        if probe.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        first.fit(Features(x, y), Features(x, y), stop)
    second = LinearProbe(6, 4, recipe)
    second.load_state_dict(first.state_dict())
    second.fit(Features(x, y), Features(x, y))
    assert second.head.weight.equal(whole.head.weight) and second.history == whole.history
    with pytest.raises(ProbeError, match="cannot continue: lr was 0.1 and is 0.2"):
        LinearProbe(6, 4, Recipe(epochs=5, batch_size=16, schedule="step", lr=0.2)).load_state_dict(first.state_dict())


def test_rates():
    cosine = Recipe(epochs=4)
    expected = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    assert [cosine.rate(e) for e in range(4)] == pytest.approx(expected)
    warm = Recipe(epochs=4, warmup=1, schedule="none")
    assert [warm.rate(e) for e in range(4)] == [0.5, 1, 1, 1]
    step = Recipe(epochs=9, schedule="step")
    assert [step.rate(e) for e in range(9)] == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)


def test_orders():
    recipe = Recipe(seed=5)
    assert sorted(recipe.order(0, 10).tolist()) == list(range(10))
    orders = {tuple(Recipe(seed=seed).order(epoch, 50).tolist()) for seed in (0, 1, 256, 1 << 24, (1 << 32) - 1)
              for epoch in range(3)}
    assert len(orders) == 15


@pytest.mark.parametrize(("option", "value"), [
    ("epochs", 0), ("lr", 0.0), ("lr", math.inf), ("lr", math.nan), ("momentum", 1.0), ("momentum", -0.1),
    ("weight_decay", -1.0), ("optimizer", "adam"), ("schedule", "linear"), ("warmup", 20), ("batch_size", 0),
    ("seed", -1)])
def test_bad_recipes(option, value):
    with pytest.raises(ProbeError, match=f"{option.replace('_', ' ')} must be .*, not"):
        Recipe(**{option: value})


def test_nothing_to_train_on():
    empty = Features(tritium.zeros(0, 6), tritium.zeros(0, dtype=tritium.int64))
    some = Features(*blobs(4))
    with pytest.raises(ProbeError, match="no images to train on"):
        LinearProbe(6, 4).fit(empty, some)
    with pytest.raises(ProbeError, match="no validation images"):
        LinearProbe(6, 4).fit(some, empty)


def test_nan_in_the_features():
    x, y = blobs(8)
    x[3, 2] = float("nan")
    with pytest.raises(ProbeError, match="the loss became nan in epoch 1"):
        probe_features((x, y), (x, y))


# ------------------------------------------------------------------------------------------------------------ scores

def test_scores():
    scores = Scores(7)
    logits = tritium.tensor([[9., 8, 7, 6, 5, 4, 3], [9, 8, 7, 6, 5, 4, 3], [0, 1, 2, 3, 4, 5, 6]])
    scores.add(logits[:2], tritium.tensor([0, 4]))
    scores.add(logits[2:], tritium.tensor([1]))
    assert (scores.count, scores.top1, scores.top5) == (3, 1 / 3, 2 / 3)
    assert scores.per_class == [1, 0, 0, 0, 0, 0, 0]
    assert scores.confusion[0, 0] == scores.confusion[4, 0] == scores.confusion[1, 6] == 1
    expected = tritium.nn.functional.cross_entropy(logits, tritium.tensor([0, 4, 1])).item()
    assert scores.loss == pytest.approx(expected, rel=1e-6)


def test_fewer_than_five_classes():
    scores = Scores(2)
    scores.add(tritium.tensor([[1., 2]]), tritium.tensor([0]))
    assert (scores.top1, scores.top5) == (0, 1)
    assert "top-5" not in summary(scores, ["a", "b"])


def test_text_of_few_and_of_many_classes():
    scores = Scores(3)
    scores.confusion[:] = [[5, 1, 0], [0, 4, 0], [12, 0, 0]]
    lines = confusion(scores, ["cat", "a very long name of a class", "ox"])
    assert len({len(line) for line in lines}) == 1   # aligned
    assert lines[1].split()[-3:] == ["5", "1", "."]
    lines = per_class(scores, ["cat", "dog", "ox"])
    assert lines[1].split() == ["cat", "6", "83.33%"] and lines[3].split() == ["ox", "12", "0.00%"]
    many = Scores(30)
    many.confusion[:] = np.eye(30) * 5
    many.confusion[7, 9] = 3
    names = [f"class {i}" for i in range(30)]
    assert any("class 7 taken for class 9" in line for line in confusion(many, names))
    assert per_class(many, names)[1].split()[:2] == ["class", "7"] and len(per_class(many, names)) == 11
