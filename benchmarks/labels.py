"""Where the labels of a scatter plot are best, so that none lies on another or on a marker."""

from itertools import combinations

import numpy as np

GAPS = (2, 5, 10, 18, 28, 40)
"""Points that a label may be from its marker; beyond ``BESIDE`` it needs a line."""
BESIDE = 5
DEAR = 1000
"""What overlapping costs, where a gap costs its points."""
STARTS = 40
"""From which labels look for their places."""


def label_offsets(
    centres: np.ndarray, radii: np.ndarray, sizes: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the middle of each label is best, seen from its marker's, and whether that needs a line.

    Every label may be in all directions at some distances. Near is cheap, and so is the side where there are few other
    markers; to lie on something is dear.

    Args:
        centres: (N, 2), of the markers.
        radii: (N,), of the markers.
        sizes: (N, 2), width and height of the labels.
        frame: left, bottom, right and top of what must hold them.
    """
    angles, gaps = (grid.ravel() for grid in np.meshgrid(np.radians(np.arange(0, 360, 15)), GAPS))
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    far = gaps > BESIDE
    offsets = (radii[:, None] + gaps)[..., None] * directions + np.clip(1.5 * directions, -1, 1) * sizes[:, None] / 2
    middles = centres[:, None] + offsets
    boxes = np.concatenate([middles - sizes[:, None] / 2, middles + sizes[:, None] / 2], axis=2)  # (N, places, 4)
    # From the marker's edge to the label's middle; where there is no line, its points are nowhere.
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
        wrong = DEAR * ((distance < 0) | crossed) + 8 * (distance <= gaps)  # nearer than to its own
        wrong[index] = 0
        cost += wrong
    chosen = cheapest(cost, DEAR * overlaps(boxes, lines))
    return offsets[np.arange(len(centres)), chosen], far[chosen]


def overlaps(boxes: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Whether label and line at one place meet another's at one of its: (N, places, N, places), 0 or 1."""
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
    """A place for each (N,), of least cost in sum, or nearly.

    Each takes in turn the place that is cheapest as the others lie, until none moves; the best of several starts.

    Args:
        cost: (N, places), of each place alone.
        mutual: (N, places, N, places), of two together, the same seen from either: so the sum falls with every move.
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
    """Whether points (..., 2) lie in boxes (..., 4)."""
    return ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(axis=-1)
