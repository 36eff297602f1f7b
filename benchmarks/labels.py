"""Placement of the labels of a scatter plot, so that none overlaps another label or a marker."""

from itertools import combinations

import numpy as np

GAPS = (2, 5, 10, 18, 28, 40)
"""Distances of a label from its marker in points; beyond ``BESIDE`` it needs a line."""
BESIDE = 5
DEAR = 1000
"""Cost of an overlap; a gap costs its points."""
STARTS = 40
"""Number of random starts of the search."""


def label_offsets(
    centres: np.ndarray, radii: np.ndarray, sizes: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best offset of each label's middle from its marker's, and whether it needs a line.

    Candidate places lie in all directions at some distances. Near places are cheap, as are sides with few other
    markers; overlaps are expensive.

    Args:
        centres: centres of the markers, (N, 2).
        radii: radii of the markers, (N,).
        sizes: width and height of the labels, (N, 2).
        frame: left, bottom, right and top of the area that must hold the labels.
    """
    angles, gaps = (grid.ravel() for grid in np.meshgrid(np.radians(np.arange(0, 360, 15)), GAPS))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    far = gaps > BESIDE
    offsets = (radii[:, None] + gaps)[..., None] * directions + np.clip(1.5 * directions, -1, 1) * sizes[:, None] / 2
    middles = centres[:, None] + offsets
    boxes = np.concatenate([middles - sizes[:, None] / 2, middles + sizes[:, None] / 2], axis=2)  # (N, places, 4)
    # From the marker's edge to the label's middle; NaN where there is no line.
    shares = np.linspace(radii[:, None] / np.hypot(*np.moveaxis(offsets, 2, 0)), 1, 12, axis=2)[..., None]
    lines = np.where(far[:, None, None], centres[:, None, None] + shares * offsets[:, :, None], np.nan)

    # Away from the other markers, the near ones most; to the right if there is no other.
    steps = centres[:, None] - centres
    push = (steps / np.maximum((steps**2).sum(axis=2, keepdims=True), 1)).sum(axis=1) + np.array([0.02, 0])
    push /= np.hypot(*push.T)[:, None]
    cost = gaps + 10 * far - 8 * push @ directions.T - 3 * np.abs(directions[:, 0])
    cost += DEAR * ((boxes[..., :2] < frame[:2]) | (boxes[..., 2:] > frame[2:])).any(axis=2)
    for index, (centre, reach) in enumerate(zip(centres, radii, strict=True)):
        nearest = np.clip(centre, boxes[..., :2], boxes[..., 2:])
        distance = np.hypot(*np.moveaxis(nearest - centre, 2, 0)) - reach
        crossed = (np.hypot(*np.moveaxis(lines - centre, 3, 0)) < reach).any(axis=2)
        wrong = DEAR * ((distance < 0) | crossed) + 8 * (distance <= gaps)  # nearer than to its own marker
        wrong[index] = 0
        cost += wrong
    chosen = cheapest(cost, DEAR * overlaps(boxes, lines))
    return offsets[np.arange(len(centres)), chosen], far[chosen]


def overlaps(boxes: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return whether each label and line at each place overlaps each other one: (N, places, N, places), 0 or 1."""
    count, places = boxes.shape[:2]
    result = np.zeros((count, places, count, places), np.int16)
    for i, j in combinations(range(count), 2):
        one, other = boxes[i][:, None], boxes[j]
        met = ((one[..., :2] < other[:, 2:]) & (one[..., 2:] > other[:, :2])).all(axis=2)
        met |= within(lines[i][:, None], other[:, None]).any(axis=2)
        met |= within(lines[j], one[:, None]).any(axis=2)
        result[i, :, j], result[j, :, i] = met, met.T
    return result


def cheapest(cost: np.ndarray, mutual: np.ndarray) -> np.ndarray:
    """Return a place for each label, (N,), with nearly the least total cost.

    Labels move in turn to their cheapest place given the others, until none moves; the best of several starts is taken.

    Args:
        cost: cost of each place alone, (N, places).
        mutual: cost of two places together, (N, places, N, places), symmetric, so the total falls with every move.
    """
    rng = np.random.default_rng(0)
    everyone = np.arange(len(cost))
    results = []
    for start in (cost.argmin(axis=1), *rng.integers(cost.shape[1], size=(STARTS, len(cost)))):
        chosen, before = start.copy(), None
        while (chosen != before).any():
            before = chosen.copy()
            for index in everyone:
                chosen[index] = (cost[index] + mutual[everyone, chosen, index].sum(axis=0)).argmin()
        both = mutual[everyone, chosen][:, everyone, chosen].sum() / 2
        results.append((cost[everyone, chosen].sum() + both, tuple(chosen)))
    return np.array(min(results)[1])


def within(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return whether points (..., 2) lie in boxes (..., 4)."""
    return ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(axis=-1)
