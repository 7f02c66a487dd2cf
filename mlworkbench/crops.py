"""What cropping would cost: how much of an image Ultralytics' default crops leave to be seen."""

import numpy as np

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of torchvision's random resized crop, Ultralytics' default in training


def crop_costs(sizes: np.ndarray, thing: float = 0.2, draws: int = 20_000, seed: int = 0) -> dict[str, float]:
    """Shares measured on these image sizes, by drawing crops and places.

    Parameters
    ----------
    sizes : int64 [N, 2], width and height
    thing : side of a square thing at a random place, as a share of the shorter side

    Returns
    -------
    `centre_area` cut away by a centre crop to a square (mean); `centre_lost` and `random_lost`, how often more than
    half of the thing is gone after a centre crop and after a random resized crop
    """
    rng = np.random.default_rng(seed)
    width, height = sizes[rng.integers(len(sizes), size=draws)].T.astype(float)
    short = np.minimum(width, height)
    side = thing * short
    x, y = rng.random(draws) * (width - side), rng.random(draws) * (height - side)

    def lost(left: np.ndarray, top: np.ndarray, w: np.ndarray, h: np.ndarray) -> float:
        seen_x = np.clip(np.minimum(x + side, left + w) - np.maximum(x, left), 0, None)
        seen_y = np.clip(np.minimum(y + side, top + h) - np.maximum(y, top), 0, None)
        return float((seen_x * seen_y < 0.5 * side**2).mean())

    area = rng.uniform(*SCALE, draws) * width * height
    ratio = np.exp(rng.uniform(np.log(RATIO[0]), np.log(RATIO[1]), draws))
    w, h = np.minimum(np.sqrt(area * ratio), width), np.minimum(np.sqrt(area / ratio), height)
    return {
        "centre_area": float((1 - short**2 / (width * height)).mean()),
        "centre_lost": lost((width - short) / 2, (height - short) / 2, short, short),
        "random_lost": lost(rng.random(draws) * (width - w), rng.random(draws) * (height - h), w, h),
    }
