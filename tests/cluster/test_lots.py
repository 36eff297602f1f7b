"""The jobs that workers get, and the fate of those of a lost worker."""

from collections import Counter, deque
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.cluster.lots import MOST_LOSSES, Lot, WaitingJobs
from lkdn_deploy.cluster.nodes import WorkerPlace, plan_places
from lkdn_deploy.runtime.outcomes import Job


def jobs(count: int) -> list[Job]:
    return [Job(Path(f"{index}.png"), Path(f"out/{index}.png")) for index in range(count)]


def waiting(count: int) -> WaitingJobs:
    return WaitingJobs(iter(jobs(count)), count)


@given(st.integers(0, 60), st.integers(1, 8), st.lists(st.integers(0, 8), max_size=30))
def test_every_job_is_done_once_whatever_is_lost(count: int, workers: int, done: list[int]) -> None:
    """Each number is how many jobs a worker has done before it is lost; later workers are not lost."""
    rest, finished, failed = waiting(count), Counter[Job](), list[Job]()
    while (lot := rest.take(workers)) is not None:
        assert lot.jobs
        for _ in range(min(done.pop(), len(lot.jobs)) if done else len(lot.jobs)):
            finished[lot.jobs.popleft()] += 1
        failed += [it.job for it in rest.give_back(lot, "killed")]
    assert rest.left == 0
    assert Counter(jobs(count)) == finished + Counter(failed)


def test_lots_become_small_towards_the_end() -> None:
    rest = waiting(40)
    sizes = [len(lot.jobs) for lot in iter(lambda: rest.take(4), None)]
    assert sum(sizes) == 40
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (5, 1)


def test_a_job_that_brings_its_workers_down_is_given_up_and_takes_no_other_with_it() -> None:
    rest = waiting(9)
    deadly, finished, failed, lost = jobs(9)[2], [], [], 0
    while (lot := rest.take(1)) is not None:
        while lot.jobs and lot.jobs[0] != deadly:
            finished.append(lot.jobs.popleft())
        if lot.jobs:
            lost += 1
            failed += [*rest.give_back(lot, "it was killed")]
    assert lost == MOST_LOSSES
    assert {job.source.name for job in finished} == {f"{index}.png" for index in range(9)} - {"2.png"}
    (only,) = failed
    assert only.job == deadly
    assert "2.png: 4 workers that had it were lost: it was killed" in only.error.message


def test_jobs_of_a_lost_worker_are_marked() -> None:
    rest = waiting(0)
    assert [*rest.give_back(Lot(deque(jobs(4))), "killed")] == []
    lots = [*iter(lambda: rest.take(1), None)]
    assert all(lot.again for lot in lots)
    assert [len(lot.jobs) for lot in lots][:2] == [1, 1]


def node(name: str, **resources: float) -> dict[str, object]:
    return {"NodeID": name, "Alive": True, "Resources": resources}


def test_places_take_all_cpus_of_each_node() -> None:
    nodes = [node("a", CPU=2.0), node("b", CPU=6.0), node("c", CPU=64.0), node("head", CPU=0.0), node("none")]
    found = Counter((it.node, it.cpus) for it in plan_places(nodes, "auto", None))
    assert found == {("a", 2): 1, ("b", 3): 2, ("c", 4): 16}
    found = Counter((it.node, it.cpus) for it in plan_places(nodes, "native", 3))
    assert found == {("a", 2): 1, ("b", 3): 2, ("c", 3): 21}


def test_a_gpu_has_one_worker_and_nodes_without_are_left_out() -> None:
    nodes = [node("a", CPU=8.0, GPU=4.0), node("b", CPU=8.0), node("c", CPU=1.0, GPU=2.0)]
    for backend in ("auto", "trt"):
        found = plan_places(nodes, backend, None)
        assert Counter((it.node, it.cpus, it.gpus) for it in found) == {("a", 2, 1): 4, ("c", 1, 1): 1}
    assert {it.gpus for it in plan_places(nodes, "native", None)} == {0}
    assert plan_places([node("b", CPU=8.0)], "trt", None) == []


def test_nodes_that_are_gone_have_no_places() -> None:
    gone = {**node("a", CPU=8.0), "Alive": False}
    assert plan_places([gone, node("b", CPU=1.0)], "auto", None) == [WorkerPlace("b", 0, 1, 0)]
