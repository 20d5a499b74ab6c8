"""The refiner R: a fully convolutional residual network that changes pixels and keeps the size (paper 2.1, 3.1)."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from simgan_fast.config import load_config
from simgan_fast.errors import InputError
from simgan_fast.files import written_whole
from simgan_fast.models import hub
from simgan_fast.ops.residual_network import residual_network

PaddingMode = Literal["reflect", "zeros"]

# What stays of the second convolution of each block under "identity" initialisation: small enough
# to leave the image alone, not zero, so that every weight receives a gradient from the first update
# on.
IDENTITY_SCALE = 0.1


@dataclass(frozen=True)
class RefinerConfig:
    """Shape of a refiner; the defaults are the paper's for eyes."""

    in_channels: int = 1
    width: int = 64
    blocks: int = 4
    kernel_size: int = 3
    padding_mode: PaddingMode = "reflect"


class ResidualBlock(nn.Module):
    """relu(x + conv2(relu(conv1(x)))) of [n, width, h, w]; a Refiner leaves the arithmetic to `residual_network`."""

    def __init__(self, width: int, kernel_size: int, padding_mode: PaddingMode) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size, padding="same", padding_mode=padding_mode)
        self.conv2 = nn.Conv2d(width, width, kernel_size, padding="same", padding_mode=padding_mode)

    def forward(self, x: Tensor) -> Tensor:
        """By torch's layers, for `Refiner.to_sequential`."""
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))

    def parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(w1, b1, w2, b2), as `residual_network` takes them; the biases exist by construction."""
        assert self.conv1.bias is not None and self.conv2.bias is not None
        return self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias


class Refiner(nn.Module):
    """Conv k x k, `blocks` residual blocks, conv 1x1, tanh: images [n, c, h, w] in [-1, 1] to the same shape and range.

    The paper's eyes: 3x3, 64 channels, 4 blocks, 296,129 parameters. It names no output activation;
    tanh keeps the range and is what every public port uses. Any number of channels and any size of
    at least (kernel_size + 1) / 2 pixels a side work.

    >>> Refiner()(torch.zeros(2, 1, 35, 55)).shape
    torch.Size([2, 1, 35, 55])
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 64,
        blocks: int = 4,
        kernel_size: int = 3,
        padding_mode: PaddingMode = "reflect",
    ) -> None:
        super().__init__()
        self.config = RefinerConfig(in_channels, width, blocks, kernel_size, padding_mode)
        self.card = (
            ""  # what a model card says of the training, in Markdown; travels with the weights
        )
        self.first = nn.Conv2d(
            in_channels, width, kernel_size, padding="same", padding_mode=padding_mode
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(width, kernel_size, padding_mode) for _ in range(blocks)
        )
        self.last = nn.Conv2d(width, in_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Refine `images` [n, c, h, w] in [-1, 1]."""
        assert self.first.bias is not None and self.last.bias is not None
        refined = residual_network(
            images,
            (self.first.weight, self.first.bias),
            [block.parameters_in_order() for block in self._blocks()],
            (self.last.weight, self.last.bias),
            padding_mode=self.config.padding_mode,
        )
        return torch.tanh(refined)

    def _blocks(self) -> list[ResidualBlock]:
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    @torch.no_grad()
    def initialize_near_identity(self) -> Refiner:
        """Start near R(x) = x: the 1,000 pretraining updates of the paper become some 60.

        Each image channel c passes through a pair of hidden channels as relu(x) and relu(-x), the
        blocks begin as a small change, and the last convolution puts the pair together again.
        Nothing else differs from torch's start.
        """
        centre = self.config.kernel_size // 2
        channels = self.config.in_channels
        if 2 * channels > self.config.width:
            raise InputError(
                f"width is {self.config.width}: identity initialisation needs at least {2 * channels}."
            )
        for block in self._blocks():
            block.conv2.weight *= IDENTITY_SCALE
            assert block.conv2.bias is not None
            block.conv2.bias *= IDENTITY_SCALE
        assert self.first.bias is not None and self.last.bias is not None
        self.last.weight *= IDENTITY_SCALE
        self.last.bias.zero_()
        for channel in range(channels):
            for hidden, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
                self.first.weight[hidden].zero_()
                self.first.weight[hidden, channel, centre, centre] = sign
                self.first.bias[hidden] = 0.0
                self.last.weight[:, hidden] = 0.0
                self.last.weight[channel, hidden] = (
                    sign * 1.25
                )  # tanh(1.25 x) is within 0.15 of x on [-1, 1]
        return self

    def to_sequential(self) -> nn.Sequential:
        """A copy in nothing but torch's layers, with the same names: its state_dict loads here, and this one there.

        For what knows no custom ops (ONNX, other runtimes, other people's code); slower on a CPU.

        >>> refiner, plain = Refiner(), Refiner().to_sequential()
        >>> refiner.load_state_dict(plain.state_dict())
        <All keys matched successfully>
        """
        first, blocks, last = (copy.deepcopy(part) for part in (self.first, self.blocks, self.last))
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            first=first,
            relu=nn.ReLU(),
            blocks=nn.Sequential(*blocks.children()),
            last=last,
            tanh=nn.Tanh(),
        )
        return nn.Sequential(layers).train(self.training)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `folder`/model.safetensors, config.json and README.md, the model card, which ends with `card`."""
        folder = Path(folder)
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()
        }
        with written_whole(folder / "model.safetensors") as file:
            file.write(save(tensors))
        with written_whole(folder / "config.json", "w") as file:
            json.dump(dataclasses.asdict(self.config), file, indent=2)
        with written_whole(folder / hub.CARD_FILE, "w") as file:
            file.write(hub.card_text(dataclasses.asdict(self.config), self.card))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | None = None, **upload: Any
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub in one commit; gives the commit's URL.

        The only method that sends anything. Needs `pip install simgan-fast[hub]`.

        Args:
            repo_id: "name/repository"; made if it is not there.
            private: of a new repository; None is the account's default.
            token: of an account; None is what `hf auth login` kept.
            upload: further arguments of huggingface_hub's `HfApi.upload_folder`: revision, commit_message, create_pr.

        >>> Refiner.from_pretrained("runs/first").push_to_hub("me/eyes")  # doctest: +SKIP
        """
        return hub.push(self.save_pretrained, repo_id, private=private, token=token, **upload)

    @classmethod
    def from_pretrained(cls, source: str | Path, **download: Any) -> Refiner:
        """Read a trained refiner, ready to refine (`eval`). Only safetensors and JSON are read; nothing is unpickled.

        Args:
            source: a run folder; a folder that `save_pretrained` wrote, or its model.safetensors; a checkpoint of a run
                (its averaged refiner); else "name/repository" on the Hugging Face Hub, which needs
                `pip install simgan-fast[hub]`.
            download: arguments of huggingface_hub's `snapshot_download`: revision, token, cache_dir, local_files_only.

        Raises:
            InputError: nothing is there, it is damaged or of other shapes, or a weight is NaN or infinite.

        >>> Refiner.from_pretrained("runs/first")  # doctest: +SKIP
        >>> Refiner.from_pretrained("runs/first/checkpoints/update-00001610.safetensors")  # doctest: +SKIP
        >>> Refiner.from_pretrained("me/eyes", revision="main")  # doctest: +SKIP
        """
        path = Path(source)
        if not path.exists() and hub.is_repo_id(str(source)):
            path = hub.downloaded(str(source), **download)
        elif download:
            raise InputError(
                f"{source} is read from the disk: {', '.join(download)} can be given for a repository on the Hub only."
            )
        if (path / "refiner" / "config.json").is_file():
            path = path / "refiner"
        weights = path if path.suffix == ".safetensors" else path / "model.safetensors"
        try:
            config, tensors = _read(weights)
            refiner = cls(**dataclasses.asdict(config))
            refiner.load_state_dict(tensors)
        except FileNotFoundError as error:
            raise InputError(
                f"{source} holds no trained refiner: {error.filename} is missing."
            ) from None
        except (
            SafetensorError,
            json.JSONDecodeError,
            UnicodeDecodeError,
            TypeError,
            KeyError,
            RuntimeError,
        ) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{source} holds a damaged refiner ({reason}): restore it or train again."
            ) from None
        broken = [
            name for name, tensor in refiner.state_dict().items() if not tensor.isfinite().all()
        ]
        if broken:
            raise InputError(
                f"{source}: weight {broken[0]} holds NaN or infinity: use an earlier checkpoint."
            )
        refiner.card = hub.training_of(weights.parent / hub.CARD_FILE)
        return refiner.eval()


def _read(weights: Path) -> tuple[RefinerConfig, dict[str, Tensor]]:
    """Shape and weights of a saved refiner, or of the averaged one in a run's checkpoint."""
    if not re.fullmatch(r"update-\d+\.safetensors", weights.name):
        saved = json.loads((weights.parent / "config.json").read_text())
        return RefinerConfig(**saved), load_file(weights)
    config, _ = load_config(weights.parent.parent / "config.toml")
    prefix = "averaged."
    tensors = {
        name[len(prefix) :]: tensor
        for name, tensor in load_file(weights).items()
        if name.startswith(prefix)
    }
    shape = (config.width, config.blocks, config.kernel_size, config.padding_mode)
    return RefinerConfig(tensors["first.weight"].shape[1], *shape), tensors
