"""Checkpoints: everything a run needs to go on bit for bit, in one safetensors file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from simgan_fast.config import RUN_FORMAT
from simgan_fast.errors import InputError
from simgan_fast.files import written_whole
from simgan_fast.training.algorithm import SimGAN

KEPT = 3  # newest checkpoints of a run that stay on disk

Done = dict[str, int]  # updates done of each phase of a run


def checkpoint_path(folder: Path, update: int) -> Path:
    """File of the checkpoint after `update` updates of all phases; names sort in the order of time."""
    return folder / f"update-{update:08d}.safetensors"


def save_checkpoint(folder: Path, simgan: SimGAN, done: Done) -> Path:
    """Write weights, optimisers, history and positions; then drop all but the newest checkpoints.

    The first of several processes writes, and all must call it. What is written does not depend on their number.
    """
    path, tensors = checkpoint_path(folder, sum(done.values())), _tensors(simgan)
    if not simgan.processes.first:
        return path
    numbers = {
        "format": RUN_FORMAT,
        "sha256": _sha256(tensors),
        "done": done,
        "synthetic_position": simgan.synthetic.position * simgan.processes.world,
        "real_position": simgan.real.position * simgan.processes.world,
    }
    with written_whole(path) as file:
        file.write(save(tensors, metadata={"simgan_fast": json.dumps(numbers)}))
    for old in sorted(folder.glob("update-*.safetensors"))[:-KEPT]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run; InputError where there is none."""
    update = latest_update(folder)
    if update < 0:
        raise InputError(
            f"{folder} holds no checkpoint: the run stopped before its first one, start it anew."
        )
    return checkpoint_path(folder, update)


def latest_update(folder: Path) -> int:
    """How many updates the newest checkpoint of a run has behind it, -1 where there is none."""
    names = (re.fullmatch(r"update-(\d+)\.safetensors", path.name) for path in folder.glob("*"))
    return max((int(name[1]) for name in names if name), default=-1)


def load_checkpoint(path: Path, simgan: SimGAN) -> Done:
    """Put `simgan` (built from the same config) in the state that `path` holds."""
    numbers, tensors = _read(path)
    if numbers.get("format") != RUN_FORMAT:
        raise InputError(
            f"{path} has checkpoint format {numbers.get('format')!r}, this version reads {RUN_FORMAT}."
        )
    broken = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise InputError(
            f"{path}: {broken} holds NaN or infinity; delete this file and resume from the one before."
        )
    try:
        done: Done = {name: _count(value) for name, value in numbers["done"].items()}
        _restore(simgan, tensors, numbers)
    except (KeyError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        reason = shorten(str(error), 200)  # of weights that do not fit, several lines
        raise InputError(
            f"{path} does not fit this run's config.toml ({reason}): was either changed?"
        ) from None
    return done


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no count")
    return value


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads((file.metadata() or {})["simgan_fast"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if not isinstance(numbers, dict):
            raise ValueError("its header is no object")
    except (SafetensorError, KeyError, ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{path} is not a whole checkpoint ({error}); delete it and resume from the one before."
        ) from None
    if numbers.get("sha256", "") not in ("", _sha256(tensors)):  # older versions wrote none
        raise InputError(
            f"{path} is damaged: its SHA-256 is another; delete it and resume from the one before."
        )
    return numbers, tensors


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensors(simgan: SimGAN) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, model, optimizer in _models(simgan):
        tensors |= {f"{name}.{key}": value for key, value in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}_optimizer.{index}.{key}": value for key, value in state.items()}
    tensors |= {f"averaged.{key}": value for key, value in simgan.averaged.state_dict().items()}
    if simgan.history is not None:
        tensors["history.images"] = simgan.history.kept()
        tensors["history.counter"] = simgan.history.counter
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _restore(simgan: SimGAN, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    for name, model, optimizer in _models(simgan):
        model.load_state_dict(_below(tensors, name))
        optimizer.load_state_dict(
            _optimizer_state(optimizer, list(model.parameters()), tensors, name)
        )
    simgan.averaged.load_state_dict(_below(tensors, "averaged"))
    if simgan.history is not None:
        simgan.history.restore(tensors["history.images"], tensors["history.counter"])
    simgan.synthetic.position = _count(numbers["synthetic_position"]) // simgan.processes.world
    simgan.real.position = _count(numbers["real_position"]) // simgan.processes.world


def _optimizer_state(
    optimizer: Optimizer, parameters: list[nn.Parameter], tensors: dict[str, Tensor], name: str
) -> dict[str, Any]:
    """The optimiser's own state_dict with `tensors` in it, moments in the memory format of their parameters."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, f"{name}_optimizer").items():
        index, _, entry = key.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            moment = torch.empty_like(parameter, requires_grad=False).copy_(value)
        else:
            moment = value  # the number of updates
        states.setdefault(int(index), {})[entry] = moment
    return {**optimizer.state_dict(), "state": states}


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name[len(prefix) + 1 :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _models(simgan: SimGAN) -> list[tuple[str, nn.Module, Optimizer]]:
    return [
        ("refiner", simgan.refiner, simgan.refiner_optimizer),
        ("discriminator", simgan.discriminator, simgan.discriminator_optimizer),
    ]
