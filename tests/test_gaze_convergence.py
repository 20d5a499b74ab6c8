"""Training until the validation error converges: what is held out, when it ends, which weights are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from simgan_fast import cli
from simgan_fast.errors import InputError
from simgan_fast.evaluation import gaze_training
from simgan_fast.evaluation.gaze_convergence import CHECK_EVERY, Convergence, parted
from simgan_fast.evaluation.gaze_training import GazeTraining, predict_gaze, train_gaze_estimator
from simgan_fast.progress import Progress


def follow(
    errors: list[float], patience: int = 2
) -> tuple[Convergence, list[tuple[bool, float, float]]]:
    """Check once per error, which is also the weight then: (over, rate, weight afterwards)."""
    network = nn.Linear(1, 1, bias=False)

    def set_to(value: float) -> None:
        network.weight.data.fill_(value)

    set_to(errors[0])
    watch = Convergence(network, network.weight.item, patience)
    seen = []
    for number, error in enumerate(errors[1:], 1):
        set_to(error)
        over = watch.over_after(number * CHECK_EVERY)
        seen.append((over, watch.rate, network.weight.item()))
        if over:
            break
    return watch, seen


def test_the_rate_falls_and_then_it_is_over() -> None:
    watch, seen = follow([9, 5, 6, 4, 7, 4, 3, 8, 3, 1])
    assert seen == [
        (False, 1.0, 5),
        (False, 1.0, 6),
        (False, 1.0, 4),
        (False, 1.0, 7),
        (False, 0.1, 4),  # twice no better: on with a tenth of the rate
        (False, 0.1, 3),
        (False, 0.1, 8),
        (True, 0.1, 3),
    ]
    watch.network.weight.data.fill_(8)  # type: ignore[operator, union-attr]
    watch.restore()
    assert watch.network.weight.item() == 3  # type: ignore[operator, union-attr]


def test_between_checks_nothing_is_asked() -> None:
    watch = Convergence(nn.Linear(1, 1), lambda: 1.0, 1)
    watch.error = lambda: pytest.fail("asked")
    assert not watch.over_after(CHECK_EVERY - 1)


def test_the_last_weights_count_even_between_checks() -> None:
    network = nn.Linear(1, 1, bias=False)
    watch = Convergence(network, lambda: abs(network.weight.item()), 1)
    network.weight.data.fill_(0)
    assert not watch.over_after(CHECK_EVERY + 1)
    watch.restore()
    assert (watch.best, network.weight.item()) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize(("count", "held"), [(2, 1), (95, 10), (20_000, 1000)])
def test_a_tenth_is_held_out(count: int, held: int, dtype: torch.dtype) -> None:
    numbers = torch.from_numpy(np.arange(count, dtype=np.uint16))
    images = (numbers if dtype == torch.uint16 else numbers.to(torch.int) % 256).to(dtype)
    gaze = torch.arange(count * 3.0).reshape(count, 3)
    (checked, checked_gaze), (kept, kept_gaze) = parted(images.reshape(count, 1, 1, 1), gaze)
    assert len(checked) == held and len(checked) + len(kept) == count
    rows = torch.cat([checked_gaze, kept_gaze])[:, 0] / 3
    assert sorted(rows.tolist()) == list(range(count))
    found = torch.from_numpy(np.concatenate([checked.numpy(), kept.numpy()]).astype(int)).flatten()
    assert torch.equal(found, rows.int() % (256 if dtype == torch.uint8 else 1 << 16))


def test_training_ends_by_itself_and_its_progress_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simgan_fast.evaluation.gaze_convergence.CHECK_EVERY", 2)
    watched: list[Convergence] = []

    class Watched(Convergence):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            watched.append(self)

    monkeypatch.setattr(gaze_training, "Convergence", Watched)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(
        rng.integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    )  # noise: nothing to learn
    gaze = rng.normal(size=(40, 3))
    training = GazeTraining.until_converged(
        width_factor=0.1, fc_width_factor=0.01, updates=400, batch_size=4, patience=2
    )
    with Progress(400, "update", "test") as progress:
        estimator = train_gaze_estimator(images, gaze, training, progress=progress)
        assert progress.done == 400
    assert 8 <= watched[0].updates < 400
    assert watched[0].error() == pytest.approx(watched[0].best)
    again = train_gaze_estimator(images, gaze, training)
    assert np.array_equal(predict_gaze(estimator, images), predict_gaze(again, images))


def test_rate_is_constant_after_the_warm_up() -> None:
    training = GazeTraining.until_converged(learning_rate=0.1, warm_up=9)
    rates = [training.rate(update) for update in (0, 9, 10, 10_000)]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.1])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="patience is 0"):
        GazeTraining(patience=0)
    with pytest.raises(InputError, match="has 1 image"):
        parted(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, 3))


def test_the_command_takes_auto(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[GazeTraining] = []

    def evaluate(*_: object, training: GazeTraining, **__: object) -> None:
        seen.append(training)
        raise InputError("enough.")

    monkeypatch.setattr("simgan_fast.evaluation.gaze.evaluate_gaze", evaluate)
    eyes = f"{tmp_path}/eyes"
    assert cli.main(["simulate", "eyes", eyes, "--count", "2"]) == 0
    command = ["evaluate", "gaze", "--train", f"raw={eyes}", "--test", eyes]
    for options in ([], ["--updates", "auto", "--width", "1"], ["--width", "0.5"]):
        assert cli.main([*command, *options]) == 2
    assert seen == [
        GazeTraining(),
        GazeTraining.until_converged(width_factor=1.0, fc_width_factor=None),
        GazeTraining(0.5, 0.1),
    ]
    with pytest.raises(SystemExit):
        cli.main([*command, "--updates", "many"])
    assert "'many' is neither a number nor auto" in capsys.readouterr().err
