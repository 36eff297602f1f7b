"""The places for workers on the nodes of a cluster: how many, with how many CPUs and GPUs each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GPU_BACKENDS = frozenset({"ort-cuda", "ort-trt", "ort-trt-rtx", "trt"})
"""The backends that need a GPU."""

USUAL_CPUS = 4
"""Most CPUs of a worker, unless its number of threads was chosen: more workers of fewer threads use cores better, and
take more memory."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """A place for a worker.

    Attributes:
        node: the node's number in the cluster.
        index: of the place on the node.
        cpus: CPUs that it reserves, as many as it has threads.
        gpus: GPUs that it reserves.
    """

    node: str
    index: int
    cpus: int
    gpus: int


def plan_places(nodes: Iterable[Mapping[str, Any]], backend: str, threads: int | None) -> list[WorkerPlace]:
    """Return the places on the nodes that are alive.

    A worker on a GPU has one for itself, with its share of the node's CPUs. With the backend ``auto``, GPUs are used if
    there are any, and the other nodes are not: an engine on a CPU may differ in the last bit.

    Args:
        nodes: as ``ray.nodes()`` describes them.
        backend: name of the engine.
        threads: CPUs of each worker; default: as many as serve best.
    """
    alive = [(str(node["NodeID"]), node.get("Resources", {})) for node in nodes if node.get("Alive")]
    gpus = {node: int(resources.get("GPU", 0)) for node, resources in alive}
    on_gpus = backend in GPU_BACKENDS or (backend == "auto" and any(gpus.values()))
    places = []
    for node, resources in alive:
        cpus = int(resources.get("CPU", 0))
        if cpus < 1:
            continue
        if on_gpus:
            count = gpus[node]
            each = min(threads or USUAL_CPUS, max(cpus // max(count, 1), 1))
        elif threads is not None:
            each = min(threads, cpus)
            count = cpus // each
        else:
            count = -(-cpus // USUAL_CPUS)
            each = cpus // count
        places += [WorkerPlace(node, index, each, int(on_gpus)) for index in range(min(count, cpus))]
    return places
