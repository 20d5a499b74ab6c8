"""SimGAN as a LightningModule, on simulated eyes: pip install lightning; python examples/lightning_simgan.py.

Two optimisers that take turns, so it is Lightning's manual optimisation. The loop, devices, checkpoints and logs are
Lightning's; this one stops half-way and goes on from a checkpoint, with the history that it had.
"""

from __future__ import annotations

import tempfile
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, StackDataset

from simgan_fast import PatchDiscriminator, Refiner
from simgan_fast.simulators import simulate_eyes
from simgan_fast.training.history import History
from simgan_fast.training.losses import adversarial_loss, discriminator_loss, self_regularization

BATCH, SHAPE = 8, (1, 35, 55)


class SimGAN(lightning.LightningModule):
    """Algorithm 1, one update of each network a step."""

    def __init__(self, width: int = 16, blocks: int = 2, weight: float = 0.4) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = weight  # lambda
        self.refiner = Refiner(width=width, blocks=blocks).initialize_near_identity()
        self.discriminator = PatchDiscriminator()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(self.refiner.parameters(), 2e-4, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), 5e-4, betas=(0.5, 0.999)),
        ]

    def setup(self, stage: str) -> None:  # noqa: ARG002
        self.history = History(64, SHAPE, seed=0, device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = (self.history.kept(), self.history.counter)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history.restore(*checkpoint["history"])

    def training_step(self, batch: dict[str, Tensor]) -> None:
        synthetic, real = batch["synthetic"], batch["real"]
        of_refiner, of_discriminator = self.optimizers()

        self.toggle_optimizer(of_refiner)
        refined = self.refiner(synthetic)
        change = self_regularization(refined, synthetic, "derivatives")
        loss = adversarial_loss(self.discriminator(refined)) + self.weight * change
        self.update(of_refiner, loss)

        self.toggle_optimizer(of_discriminator)
        with torch.no_grad():
            fresh = self.refiner(synthetic[: BATCH // 2])
        fakes = torch.cat([fresh, self.history.exchange(fresh)])
        loss_d = discriminator_loss(self.discriminator(fakes), self.discriminator(real))
        self.update(of_discriminator, loss_d)
        self.log_dict({"refiner": loss, "discriminator": loss_d}, prog_bar=True)

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)


def eyes(domain: str) -> Tensor:
    """128 of them, in [-1, 1]."""
    batches = [torch.from_numpy(batch.images) for batch in simulate_eyes(128, domain=domain)]
    return torch.cat(batches) / 127.5 - 1


def train(model: SimGAN, loader: DataLoader, steps: int, checkpoint: str, go_on: bool) -> None:
    """Up to `steps` updates of both networks, from the checkpoint where there is one, to a new one in its place."""
    trainer = lightning.Trainer(
        max_steps=2 * steps,  # Lightning counts those of either optimiser
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, ckpt_path=checkpoint if go_on else None, weights_only=True)
    trainer.save_checkpoint(checkpoint)
    losses = {name: round(float(value), 2) for name, value in trainer.callback_metrics.items()}
    print(
        f"{trainer.global_step // 2} steps, {model.history.filled} images in the history: {losses}"
    )


def main() -> None:
    lightning.seed_everything(0)
    images = StackDataset(synthetic=eyes("plain"), real=eyes("camera"))
    loader = DataLoader(images, BATCH, shuffle=True, drop_last=True)
    with tempfile.TemporaryDirectory() as folder:
        train(SimGAN(), loader, 8, f"{folder}/last.ckpt", go_on=False)
        train(SimGAN(), loader, 20, f"{folder}/last.ckpt", go_on=True)


if __name__ == "__main__":
    main()
