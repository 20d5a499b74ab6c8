"""Simulators of labelled images, bundled so that everything can be tried without a data set."""

from simgan_fast.simulators.camera import CameraSpec, camera_model
from simgan_fast.simulators.eyes import EyeBatch, simulate_eyes

__all__ = ["CameraSpec", "EyeBatch", "camera_model", "simulate_eyes"]
