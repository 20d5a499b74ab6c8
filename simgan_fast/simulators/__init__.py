"""Simulators of labelled images, bundled so that everything can be tried without a data set."""

from simgan_fast.simulators.camera import CameraSpec, camera_model
from simgan_fast.simulators.depth_camera import DepthCameraSpec, depth_camera
from simgan_fast.simulators.eyes import EyeBatch, simulate_eyes
from simgan_fast.simulators.hands import HandBatch, simulate_hands

__all__ = [
    "CameraSpec",
    "DepthCameraSpec",
    "EyeBatch",
    "HandBatch",
    "camera_model",
    "depth_camera",
    "simulate_eyes",
    "simulate_hands",
]
