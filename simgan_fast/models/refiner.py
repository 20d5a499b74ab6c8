"""The refiner R: a fully convolutional residual network that changes pixels and keeps the size (paper 2.1, 3.1)."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from simgan_fast.errors import InputError
from simgan_fast.files import written_whole
from simgan_fast.models import hub
from simgan_fast.ops.residual_network import residual_network

PaddingMode = Literal["reflect", "zeros"]

# What stays of the second convolution of each block under "identity" initialisation: small enough
# to leave the image alone, not zero, so that every weight receives a gradient from the first update
# on.
IDENTITY_SCALE = 0.1

BEST = "best"  # folder of the refiner that a run selected


@dataclass(frozen=True)
class RefinerConfig:
    """Shape of a refiner; the defaults are the paper's for eyes."""

    in_channels: int = 1
    width: int = 64
    blocks: int = 4
    kernel_size: int = 3
    padding_mode: PaddingMode = "reflect"

    def __post_init__(self) -> None:
        for name in ("in_channels", "width", "blocks", "kernel_size"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                raise InputError(
                    f"a refiner's {name} is {number!r}: it must be an integer of at least 1."
                )
        if self.kernel_size % 2 == 0:
            raise InputError(
                f"a refiner's kernel_size is {self.kernel_size}: it must be odd, as images keep their size."
            )


def _weights(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, each asked for once: an attribute of a module takes half a microsecond."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    return weight, bias


class ResidualBlock(nn.Module):
    """Parameters of relu(x + conv2(relu(conv1(x)))); the arithmetic is the op `residual_network`."""

    def __init__(self, width: int, kernel_size: int, padding_mode: PaddingMode) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size, padding="same", padding_mode=padding_mode)
        self.conv2 = nn.Conv2d(width, width, kernel_size, padding="same", padding_mode=padding_mode)

    def parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(w1, b1, w2, b2), as `residual_network` takes them; the biases exist by construction."""
        return *_weights(self.conv1), *_weights(self.conv2)


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
        self.first = nn.Conv2d(
            in_channels, width, kernel_size, padding="same", padding_mode=padding_mode
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(width, kernel_size, padding_mode) for _ in range(blocks)
        )
        self.last = nn.Conv2d(width, in_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Refine `images` [n, c, h, w] in [-1, 1]."""
        first, last = _weights(self.first), _weights(self.last)
        blocks = [block.parameters_in_order() for block in self._blocks()]
        mode = self.config.padding_mode
        return residual_network(images, first, blocks, last, padding_mode=mode, tanh=True)

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

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        measures: Mapping[str, object] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Write `folder`/model.safetensors, config.json, README.md.

        `measures`: name -> value, for README.md, the model card. `metadata`: for the header of the weights' file.
        """
        self._save(Path(folder), measures or {}, Path(folder).name, metadata)

    def _save(
        self,
        folder: Path,
        measures: Mapping[str, object],
        place: str,
        metadata: dict[str, str] | None = None,
    ) -> None:
        config = dataclasses.asdict(self.config)
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()
        }
        with written_whole(folder / hub.WEIGHTS_FILE) as file:
            file.write(save(tensors, metadata))
        with written_whole(folder / hub.CARD_FILE, "w") as file:
            file.write(hub.model_card(config, measures, place))
        with written_whole(folder / hub.CONFIG_FILE, "w") as file:
            json.dump(config, file, indent=2)

    def push_to_hub(
        self,
        place: str,
        *,
        measures: Mapping[str, object] | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Save to the model `place`, hf://organisation/model, of the Hugging Face Hub; gives the address of the commit.

        `measures` go into the model card. `token`: by default that of `hf auth login`. Raises InputError where
        huggingface_hub is missing or the Hub refuses.

        >>> Refiner.from_pretrained("runs/first").push_to_hub("hf://me/eyes")  # doctest: +SKIP
        """
        name = hub.hub_name(place)
        if name is None:
            raise InputError(
                f"{place!r}: want hf://organisation/model; save_pretrained writes folders."
            )
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder), measures or {}, place)
            return hub.push(Path(folder), name, private=private, token=token)

    @classmethod
    def from_pretrained(cls, place: str | Path, *, revision: str | None = None) -> Refiner:
        """Read what `save_pretrained` wrote. Nothing is unpickled.

        Args:
            place: a folder, a run (the refiner that was selected, `best/`, if any, else that of its end, `refiner/`),
                or hf://organisation/model, which is fetched from the Hugging Face Hub (needs huggingface_hub).
            revision: branch, tag or commit on the Hub.

        Raises InputError where there is no refiner, or a damaged one.

        >>> Refiner.from_pretrained("runs/first")  # doctest: +SKIP
        """
        name = hub.hub_name(str(place))
        folder = Path(place) if name is None else hub.fetched(name, revision)
        for part in (BEST, "refiner"):
            if (folder / part / hub.CONFIG_FILE).is_file():
                folder = folder / part
                break
        try:
            config = RefinerConfig(**json.loads((folder / "config.json").read_text()))
            weights = load_file(folder / "model.safetensors")
            _check_fit(config, weights)
            refiner = cls(**dataclasses.asdict(config))
            refiner.load_state_dict(weights)
        except FileNotFoundError as error:
            raise InputError(
                f"{folder} holds no trained refiner: {error.filename or hub.WEIGHTS_FILE} is missing."
            ) from None
        except (
            SafetensorError,
            ValueError,
            RecursionError,
            TypeError,
            RuntimeError,
        ) as error:
            reason = shorten(str(error), 200)  # of weights that do not fit, several lines
            raise InputError(
                f"{folder} holds a damaged refiner ({reason}): restore it or train again."
            ) from None
        broken = [
            name for name, tensor in refiner.state_dict().items() if not tensor.isfinite().all()
        ]
        if broken:
            raise InputError(
                f"{folder}: weight {broken[0]} holds NaN or infinity: use an earlier checkpoint."
            )
        return refiner.eval()


def _check_fit(config: RefinerConfig, weights: Mapping[str, Tensor]) -> None:
    """ValueError unless the config is that of the weights: a damaged one may ask for more memory than there is."""
    size = config.kernel_size
    sizes = (config.width, config.in_channels, size, size)
    first = weights.get("first.weight", torch.empty(0))
    if first.shape != sizes:
        raise ValueError(f"first.weight is {list(first.shape)}, and config.json says {list(sizes)}")
    blocks = sum(name.endswith(".conv1.weight") for name in weights)
    if blocks != config.blocks:
        raise ValueError(f"it has {blocks} blocks, and config.json says {config.blocks}")


def read_refiner(refiner: Refiner | str | Path) -> Refiner:
    """The refiner, by `Refiner.from_pretrained` where it is not one already."""
    return refiner if isinstance(refiner, Refiner) else Refiner.from_pretrained(refiner)
