"""From measured steps to a cost model: least squares on relative errors, so that a step of 10 ms counts as much as one
of a second, and no coefficient is negative."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from bench.llm.cost import CostModel, Load


@dataclass(frozen=True, slots=True)
class Sample:
    load: Load
    seconds: float


@dataclass(frozen=True, slots=True)
class Fit:
    model: CostModel
    r_squared: float
    worst: float
    """The largest relative error."""


def fitted(samples: list[Sample]) -> Fit:
    table = np.array([sample.load.features() for sample in samples], dtype=float)
    seconds = np.array([sample.seconds for sample in samples])
    coefficients = _not_negative(table / seconds[:, None], np.ones(len(samples)))
    predicted = table @ coefficients
    residual = float(((seconds - predicted) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum())
    names = [field.name for field in fields(CostModel)]
    model = CostModel(**dict(zip(names, map(float, coefficients), strict=True)))
    return Fit(model, 1.0 - residual, float(np.abs(predicted / seconds - 1.0).max()))


def _not_negative(table: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares, leaving out whichever column would come out negative, the most negative first."""
    kept = list(range(table.shape[1]))
    while True:
        found = np.linalg.lstsq(table[:, kept], target, rcond=None)[0]
        if (found >= 0).all():
            coefficients = np.zeros(table.shape[1])
            coefficients[kept] = found
            return coefficients
        kept.pop(int(found.argmin()))
