"""Simulated predictions of which the truth is known: images in groups that share part of label and score."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from mlworkbench import Predictions


@dataclass(frozen=True)
class World:
    """Images of which every class is as likely and as hard as said, in groups that are alike.

    Attributes
    ----------
    prevalence : float [C] in 0..1
    apart : float [C], how far present and absent images are apart, in standard deviations of the scores; 0 is chance
    size : images a group; 1: each stands for itself
    share : of the variance, of what makes the label and of the score's noise, which a group has in common, 0..1
    alike : of the noise's variance, what several models of the same images have in common, 0..1
    """

    prevalence: np.ndarray
    apart: np.ndarray
    size: int = 1
    share: float = 0.7
    alike: float = 0.5

    def draw(self, rng: np.random.Generator, images: int, models: int = 1) -> list[Predictions]:
        """What so many equally good models say of the same new images, by calibrated logits."""
        groups, classes = np.arange(images) // self.size, len(self.prevalence)
        y = self._normal(rng, groups) < ndtri(self.prevalence)
        common = self._normal(rng, groups)
        paths, names = np.array([f"{i}.jpg" for i in range(images)], object), [f"c{c}" for c in range(classes)]
        prior, found = np.log(self.prevalence / (1 - self.prevalence)), []
        for _ in range(models):
            own = self._normal(rng, groups)
            noise = np.sqrt(self.alike) * common + np.sqrt(1 - self.alike) * own if models > 1 else own
            logits = self.apart * (self.apart * (y - 0.5) + noise) + prior
            known = None if self.size == 1 else groups
            found.append(Predictions(paths, names, logits.astype(np.float32), y.astype(np.int8), "val", groups=known))
        return found

    def _normal(self, rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """Standard normal numbers [N, C], those of a group alike."""
        shape = (len(groups), len(self.prevalence))
        of_group = rng.standard_normal((groups[-1] + 1, shape[1]))[groups]
        share = 0.0 if self.size == 1 else self.share
        return np.sqrt(share) * of_group + np.sqrt(1 - share) * rng.standard_normal(shape)

    def truth(self, images: int = 200_000, seed: int = 0) -> Predictions:
        """So many independent images, on which a score is what it is in the long run."""
        return World(self.prevalence, self.apart).draw(np.random.default_rng(seed), images)[0]
