"""Networks of drawn operators."""

from collections.abc import Callable, Sequence

from native_graphs import Graph

WINDOWS = ((3, 3), (5, 5), (1, 3), (5, 1), (1, 1))

RANDOM_OPS: dict[str, Callable[[Graph, int, str, str], str]] = {
    "pointwise": lambda g, number, x, _: g.convolution(x, 1 + number % 31),
    "dense": lambda g, number, x, _: g.convolution(x, 1 + number % 15, (3, 3), 1 + number % 2),
    "depthwise": lambda g, number, x, _: g.depthwise(x, WINDOWS[number % 5], 1 + number % 3),
    "several": lambda g, _, x, __: g.convolution(x, 2 * g.channels[x], (3, 3), groups=g.channels[x]),
    "joined": lambda g, _, x, y: g.op("Relu", g.op("Concat", x, y, channels=2 * g.channels[x], axis=1)),
    "norm": lambda g, _, x, __: g.norm(x),
    "unit": lambda g, _, x, __: g.unit(x),
    "silu": lambda g, _, x, __: g.silu(x),
    "attention": lambda g, _, x, y: g.attention(x, y),
    "sum": lambda g, number, x, y: g.op("Add", g.convolution(x, 5, (3, 3)), g.convolution(y, 5, WINDOWS[number % 5])),
    "part": lambda g, number, x, _: g.part(x, number % g.channels[x], g.channels[x]),
    "split": lambda g, number, x, _: g.split(g.convolution(x, 6), 1 + number % 5, 5 - number % 5)[number % 2],
    "concat": lambda g, _, x, y: g.convolution(g.op("Concat", x, y, channels=2 * g.channels[x], axis=1), 6),
    "mul": lambda g, _, x, y: g.op("Mul", x, g.op("Gelu", y)),
    **{kind: lambda g, _, x, y, kind=kind: g.op(kind, x, y) for kind in ("Add", "Sub")},  # type: ignore[misc]
    **{kind: lambda g, _, x, __, kind=kind: g.op(kind, x) for kind in ("Gelu", "LeakyRelu", "Tanh")},  # type: ignore[misc]
}


def random_model(choices: Sequence[tuple[str, int]], seed: int) -> bytes:
    """Return a network of the chosen operators, with an output of twice the size."""
    graph = Graph(seed)
    values = [graph.convolution("lr", 4 + choices[0][1] % 9)]
    for kind, number in choices:
        value = values[number % len(values)]
        alike = [it for it in values if graph.channels[it] == graph.channels[value]]
        values.append(RANDOM_OPS[kind](graph, number, value, alike[number // 7 % len(alike)]))
    joined = graph.op("Concat", *values[-3:], channels=sum(graph.channels[it] for it in values[-3:]), axis=1)
    return graph.model(graph.larger(graph.convolution(joined, 12, (3, 3)), 2))
