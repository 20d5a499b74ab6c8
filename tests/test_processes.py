"""Training by several processes: the updates, the checkpoints and the run of one, whoever is killed."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from cases import TINY_RUN
from safetensors.torch import load_file

from simgan_fast import preset, train
from simgan_fast.data.packed_writer import PackedWriter
from simgan_fast.errors import InputError, ProcessLost
from simgan_fast.training.meeting import meeting
from simgan_fast.training.processes import Processes, processes_of, require_reachable_name
from simgan_fast.training.run import Run

SETTINGS = TINY_RUN | {
    "history": 27,
    "optimizer": "sgd",
    "steps": 8,
}  # sgd: no division by small gradients
OPTIONS = [
    text for name, value in SETTINGS.items() for text in (f"--{name.replace('_', '-')}", str(value))
]


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Two packed sets of 40 images."""
    for seed, name in enumerate(["synthetic", "real"]):
        images = np.random.default_rng(seed).integers(0, 256, (40, 1, 12, 16)).astype(np.uint8)
        with PackedWriter(tmp_path / name, (1, 12, 16), shard_size=10) as writer:
            writer.add(images, [f"{index}.png" for index in range(40)])
    return [str(tmp_path / "synthetic"), str(tmp_path / "real")]


# Four processes, of which the first one, two or four make up a group. Rank 0 checks what it gets.
FOUR = """
import os, sys, torch
import torch.distributed as dist
from pathlib import Path
from safetensors.torch import load_file
from simgan_fast.config import preset
from simgan_fast.data.packed import open_packed
from simgan_fast.jobs.train import _load_newest, _new_run
from simgan_fast.training.processes import ALONE, Group
from simgan_fast.training.run import Run

folder, synthetic, real = Path(sys.argv[1]), open_packed(sys.argv[2]), open_packed(sys.argv[3])
torch.set_num_threads(1)
rank = 3
for child in range(3):
    if os.fork() == 0:
        rank = child
        break
dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=4)
groups = {world: dist.new_group(range(world)) for world in (2, 4)}

def run(name, world, **changes):
    config = preset("eyes", **(SETTINGS | changes))
    processes = ALONE if world == 1 else Group("cpu", groups[world])
    return _new_run(folder / name, config, synthetic, real, "cpu", FEED, processes)

def gradients(world):
    simgan = run("none", world).simgan
    found = []
    for _ in range(9):  # past the moment when the history is full
        simgan.update_discriminator()
        found.append([p.grad.clone() for p in simgan.discriminator.parameters()])
    simgan.update_refiner()
    return [*found, [p.grad.clone() for p in simgan.refiner.parameters()]]

def equal(ours, theirs, tolerance):
    worst = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))
    assert worst < tolerance, worst

SETTINGS, FEED = eval(sys.argv[4]), "resident"
for world in (2, 4):
    if rank < world:
        found = gradients(world)
        for ours, theirs in zip(found, gradients(1), strict=True):
            equal(ours, theirs, 1e-5)  # 4e-7 measured

def resumed(name, world, steps):
    if rank < world:
        each = run(name, world, steps=steps)
        _load_newest(each)
        each.finish()
    dist.barrier()

resumed("alone", 1, 8) if rank == 0 else dist.barrier()
for world, steps in ((2, 2), (1, 3), (4, 5), (1, 6), (2, 8)):
    resumed("by turns", world, steps)
FEED = "stream"
resumed("stream", 2, 2)
resumed("stream", 1, 4)
if rank:
    os._exit(0)
dist.destroy_process_group()
"""


def same_state(one: Path, other: Path) -> None:
    """The last checkpoints of two runs of SETTINGS hold the same, but for rounding."""
    file = "checkpoints/update-00000018.safetensors"
    expected, found = load_file(one / file), load_file(other / file)
    assert found.keys() == expected.keys() and len(found["history.images"]) == SETTINGS["history"]
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=1e-5, msg=name
        )  # 1.2e-7 measured


def test_what_cannot_be_shared_out_is_refused() -> None:
    processes = Processes()
    processes.world = 3
    assert processes.share(6) == 2
    with pytest.raises(InputError, match="8 images, half a mini-batch, cannot be shared out to 3"):
        processes.share(8)


def test_an_environment_that_torchrun_did_not_make(
    sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="start with torchrun"):
        train(*sets, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_processes_meet_beside_what_earlier_attempts_left() -> None:
    store = dist.HashStore()
    names = set()
    with ThreadPoolExecutor(4) as threads:
        for world in (2, 4, 3, 2, 4):
            late = world == 4  # its predecessor's name is proposed, and a lone process's that died
            store.set("simgan_fast/process/1", "dead")
            ranks = [0, 3, 2, 1] if late else range(world)
            started = []
            for rank in ranks:
                started.append(threads.submit(meeting, store, rank, world, 20))
                time.sleep(0.1 * late)
            found = {future.result() for future in started}
            assert len(found) == 1 and found.isdisjoint(names)
            names |= found
    with pytest.raises(ProcessLost, match="did not come within 0 seconds: start all"):
        meeting(store, 1, 2, 0.1)


@pytest.mark.parametrize("address", ["127.0.1.1", None])
def test_a_machine_whose_name_others_cannot_use(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    def resolve(name: str) -> str:
        if address is None:
            raise OSError
        return address

    monkeypatch.setattr("socket.gethostbyname", resolve)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with pytest.raises(InputError, match="set GLOO_SOCKET_IFNAME to the network interface"):
        require_reachable_name()
    monkeypatch.delenv("RANK", raising=False)  # which torch's rendezvous would miss first
    with pytest.raises(InputError, match="set GLOO_SOCKET_IFNAME"), processes_of("cpu"):
        pass
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    require_reachable_name()
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # all on this machine
    require_reachable_name()


@pytest.mark.parametrize("option", [{"size": (12, 16)}, {"labelled": "photographs"}])
def test_what_several_processes_do_not_do(
    sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, object]
) -> None:
    two = Processes()
    two.world = 2
    monkeypatch.setattr("simgan_fast.jobs.train.processes_of", lambda _: nullcontext(two))
    with pytest.raises(InputError, match="neither a size nor a labelled set"):
        train(*sets, tmp_path / "run", **option)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="several processes cannot select yet"):
        train(*sets, tmp_path / "run", preset("eyes", **SETTINGS, select_by="realism"))
    assert not (tmp_path / "run").exists()


def test_one_two_and_four_processes(
    sets: list[str], tmp_path: Path, run_python: Callable[..., str]
) -> None:
    for name in ("alone", "by turns", "stream"):
        (tmp_path / name).mkdir()
    run_python(FOUR, str(tmp_path), *sets, repr(SETTINGS))
    same_state(tmp_path / "alone", tmp_path / "by turns")


# Two processes, of which the second goes silent.
SILENT = """
import os, signal, sys, time
from simgan_fast.errors import ProcessLost
from simgan_fast.training import processes

processes.PATIENCE = 3.0
other = os.fork()
os.environ |= {"RANK": str(int(other == 0)), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[1]}
with processes.processes_of("cpu") as group:
    assert group.most(group.rank) == 1
    if other == 0:
        time.sleep(60)
    began = time.monotonic()
    try:
        group.most(0)
    except ProcessLost as error:
        assert 2 < time.monotonic() - began < 20, error
    else:
        raise AssertionError
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    os._exit(0)
"""


def test_a_process_that_goes_silent_is_given_up(run_python: Callable[..., str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_python(SILENT, str(port))


# As the command, but the second of two processes is killed once, two updates after a checkpoint.
KILLED = """
import os, signal, sys
from simgan_fast.cli import main
from simgan_fast.training.run import Run

log = Run._log
def log_or_die(run, *arguments):
    if run.update == 17 and run.processes.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    log(run, *arguments)

Run._log = log_or_die
sys.exit(main(sys.argv[1:]))
"""


def torchrun(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", "--max-restarts", "1", str(script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_torchrun_replaces_a_killed_process(sets: list[str], tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = ["--synthetic", sets[0], "--real", sets[1], "--out", str(tmp_path / "run")]
    done = torchrun(script, "train", *run, *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "another process of the run is gone" in done.stderr
    train(*sets, tmp_path / "alone", preset("eyes", **SETTINGS))
    same_state(tmp_path / "alone", tmp_path / "run")
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        assert [int(row["update"]) for row in csv.DictReader(file)] == list(range(1, 19))


def test_one_process_that_torchrun_starts_again(
    sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Run._log

    def log_or_end(run: Run, *arguments: Any) -> None:
        if run.update == 17:
            raise KeyboardInterrupt
        log(run, *arguments)

    settings = preset("eyes", **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_log", log_or_end)
        with pytest.raises(KeyboardInterrupt):
            train(*sets, tmp_path / "run", settings)
    with pytest.raises(InputError, match="already exists"):
        train(*sets, tmp_path / "run", settings)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    with pytest.raises(InputError, match="is a run with other settings or images"):
        train(*reversed(sets), tmp_path / "run", settings)
    train(*sets, tmp_path / "run", settings)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    train(*sets, tmp_path / "alone", settings)
    same_state(tmp_path / "alone", tmp_path / "run")


# Two machines, as far as one can play them: network namespaces with an address each, and a cable.
ADDRESSES = ["10.213.7.1", "10.213.7.2"]
CABLE = "cable"  # what both call their end of it
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Names of two namespaces that reach each other by ADDRESSES and nothing else."""
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces here: ip is not installed")
    names = [f"simgan-fast-{os.getpid()}-{number}" for number in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        ip(*f"link add {CABLE} netns {names[0]} type veth peer {CABLE} netns {names[1]}".split())
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            for device in ("lo", CABLE):
                ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error}")
    else:
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def begin(machine: str, first: bool, own: str, arguments: list[str]) -> subprocess.Popen[str]:
    """torchrun of one process on a machine; the first one is where they meet."""
    address = ADDRESSES[0 if first else 1]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29500"]
    options = ["--nnodes", "2", "--max-restarts", "1", "--local-addr", address, *meeting]
    options += ["--rdzv-conf", f"is_host={int(first)}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    return subprocess.Popen(
        ["ip", "netns", "exec", machine, *launcher, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": CABLE, OWN_STORE: own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("own", ["0", "1"])  # one store for all attempts, or one for each
def test_two_machines_and_a_killed_process(
    sets: list[str], tmp_path: Path, machines: list[str], own: str
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = ["--synthetic", sets[0], "--real", sets[1], "--out", str(tmp_path / "run")]
    started = [
        begin(machine, machine == machines[0], own, [str(script), "train", *run, *OPTIONS])
        for machine in machines
    ]
    try:
        errors = [process.communicate(timeout=110)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], errors
    assert "another process of the run is gone" in errors[0]
    train(*sets, tmp_path / "alone", preset("eyes", **SETTINGS))
    same_state(tmp_path / "alone", tmp_path / "run")
