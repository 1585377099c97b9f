"""The demo cameras' looks: three that differ as badly as cheap cameras do, varied a little by the seed."""

from dataclasses import replace

import numpy as np
from camera import CameraLook

_BASES = (
    # Cool and a little dark.
    CameraLook((1.10, 0.90, 0.73), 1.10, 0.98, 0.92, 0.35, 2.2, 0.18, 70, 24),
    # Warm, bright and washed out.
    CameraLook((0.77, 1.00, 1.19), 0.88, 0.86, 0.78, 0.5, 1.8, 0.10, 80, 23),
    # Greenish, soft and noisy.
    CameraLook((0.81, 1.05, 0.83), 1.04, 0.92, 0.85, 0.75, 3.0, 0.22, 60, 25),
)


def demo_look(number: int, rng: np.random.Generator) -> CameraLook:
    """The look of camera `number` (0, 1, ...) of one site."""
    base = _BASES[number % len(_BASES)]
    gain = np.asarray(base.gain) * rng.normal(1.0, 0.025, 3) * rng.normal(1.0, 0.03)
    return replace(
        base,
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        gamma=base.gamma * float(rng.uniform(0.95, 1.05)),
        contrast=base.contrast * float(rng.uniform(0.97, 1.03)),
        saturation=base.saturation * float(rng.uniform(0.95, 1.05)),
    )
