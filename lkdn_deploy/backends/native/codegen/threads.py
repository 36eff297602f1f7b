"""Loops over the rows of a band, and the synchronisation of the threads that compute one band each.

    void lead(state, segment, others, stages, count, geometry, first, last)
    void follow(state, bands, segments, geometry)
    void lead_all(state, bands, segments, others, geometry)

``lead`` starts a segment, computes a band of it, and waits until ``others`` other bands are done. ``follow`` computes
one of the other bands of every segment, once it is started. ``lead_all`` leads all segments, in modules of fixed point.
``stages`` is a table of six integers for each stage: function, operands, weights, row delay, and the first and last
(exclusive) row to compute. Step t computes row t - delay of each stage. ``bands`` is a table of four integers for each
segment: stages, their count, the first and last step.

Threads wait for each other between segments. That may take a few microseconds, less than the system needs to wake a
thread. So they poll, and yield the processor only if it lasts.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen.stage import STAGE
from lkdn_deploy.jit.builder import INT, POINTER, SHORT, Builder

BEGUN, DONE, YIELD = 0, 8, 16
"""Entries of the shared state, each in a cache line of its own: the number of segments started, the number of bands
that other threads have computed, and the address of the system's function that yields the processor, or 0."""

STATE = 24
"""Integers of the shared state."""

STOP = 2**62
"""Value of ``BEGUN`` that makes the other threads return."""

_POLLS = 5000
"""Polls before a thread yields: some ten microseconds."""

_REST = 50_000
"""Nanoseconds for which WebAssembly yields."""

_VOID = ir.VoidType()
_YIELD = ir.FunctionType(_VOID, [])
_BAND = ir.FunctionType(_VOID, [POINTER, INT, POINTER, INT, INT])
_LEAD = ir.FunctionType(_VOID, [POINTER, INT, INT, POINTER, INT, POINTER, INT, INT])
_FOLLOW = ir.FunctionType(_VOID, [POINTER, POINTER, INT, POINTER])
_LEAD_ALL = ir.FunctionType(_VOID, [POINTER, POINTER, INT, INT, POINTER])


def emit_bands(module: ir.Module, *, at_once: bool = False) -> None:
    """Add ``lead`` and ``follow`` to a module, and ``lead_all`` where nothing is computed between segments."""
    band = _emit_band(module)
    lead = _emit_lead(module, band)
    _emit_follow(module, band)
    if at_once:
        _emit_lead_all(module, lead)


def _emit_band(module: ir.Module) -> ir.Function:
    function = ir.Function(module, _BAND, "band")
    table, count, geometry, first, last = function.args
    b = Builder(function, 1)

    def step(t: Any) -> None:
        def stage(index: Any) -> None:
            entry = b.gep(table, [b.mul(index, INT(6))], source_etype=INT)
            code, operands, weights, delay, low, high = b.load_integers(entry, 6)
            y = b.sub(b.add(t, first), delay)
            inside = b.and_(b.icmp_signed(">=", y, low), b.icmp_signed("<", y, high))
            with b.if_then(inside):
                b.call(
                    b.inttoptr(code, STAGE.as_pointer()),
                    [b.inttoptr(operands, POINTER), b.inttoptr(weights, POINTER), geometry, y],
                )

        b.repeat(count, stage)

    b.repeat(b.sub(last, first), step)
    b.ret_void()
    return function


def _emit_lead(module: ir.Module, band: ir.Function) -> ir.Function:
    function = ir.Function(module, _LEAD, "lead")
    state, segment, others, stages, count, geometry, first, last = function.args
    b = Builder(function, 1)
    begun = b.add(segment, INT(1))
    b.atomic_rmw("xchg", _entry(b, state, BEGUN), begun, "release")  # llvmlite's atomic store takes no such pointer
    b.call(band, [stages, count, geometry, first, last])
    expected = b.mul(begun, others)
    _wait(b, state, DONE, lambda done: b.icmp_signed(">=", done, expected))
    b.ret_void()
    return function


def _emit_lead_all(module: ir.Module, lead: ir.Function) -> None:
    """Add ``lead_all``: between segments, the other threads would wait for Python."""
    function = ir.Function(module, _LEAD_ALL, "lead_all")
    state, bands, segments, others, geometry = function.args
    b = Builder(function, 1)

    def segment(number: Any) -> None:
        stages, count, first, last = b.load_integers(b.gep(bands, [b.mul(number, INT(4))], source_etype=INT), 4)
        b.call(lead, [state, number, others, b.inttoptr(stages, POINTER), count, geometry, first, last])

    b.repeat(segments, segment)
    b.ret_void()


def _emit_follow(module: ir.Module, band: ir.Function) -> None:
    function = ir.Function(module, _FOLLOW, "follow")
    state, bands, segments, geometry = function.args
    b = Builder(function, 1)

    def segment(number: Any) -> None:
        begun = _wait(b, state, BEGUN, lambda begun: b.icmp_signed(">", begun, number))
        with b.if_then(b.icmp_signed("==", begun, INT(STOP))):
            b.ret_void()
        stages, count, first, last = b.load_integers(b.gep(bands, [b.mul(number, INT(4))], source_etype=INT), 4)
        b.call(band, [b.inttoptr(stages, POINTER), count, geometry, first, last])
        b.atomic_rmw("add", _entry(b, state, DONE), INT(1), "release")

    b.repeat(segments, segment)
    b.ret_void()


def _wait(b: Builder, state: Any, entry: int, enough: Callable[[Any], Any]) -> Any:
    """Emit a loop that polls an entry of the state until ``enough`` of its value holds, and return the value."""
    place = _entry(b, state, entry)
    yield_address = b.load(_entry(b, state, YIELD), typ=INT)
    can_yield = b.icmp_signed("!=", yield_address, INT(0))
    before = b.block
    poll, again, leave, after = (b.append_basic_block(name) for name in ("poll", "again", "leave", "after"))
    b.branch(poll)
    b.position_at_end(poll)
    polls = b.phi(INT)
    polls.add_incoming(INT(0), before)
    found = b.load_atomic(place, "acquire", 8, typ=INT)
    following = b.add(polls, INT(1))
    b.cbranch(enough(found), after, again)
    b.position_at_end(again)
    polls.add_incoming(following, again)
    b.cbranch(b.and_(can_yield, b.icmp_signed(">", polls, INT(_POLLS))), leave, poll)
    b.position_at_end(leave)
    b.call(b.inttoptr(yield_address, _YIELD.as_pointer()), [])
    polls.add_incoming(following, leave)
    b.branch(poll)
    b.position_at_end(after)
    return found


def _entry(b: Builder, state: Any, entry: int) -> Any:
    return b.gep(state, [INT(entry)], source_etype=INT)


def emit_rest(module: ir.Module) -> None:
    """Add ``rest``, which yields the processor in WebAssembly, to a module.

    There the system has no such function, but a wait of limited time for the memory to change, which must be shared.
    """
    b = Builder(ir.Function(module, _YIELD, "rest"), 1)
    kinds = [POINTER, SHORT, INT]
    wait = ir.Function(module, ir.FunctionType(SHORT, kinds), "llvm.wasm.memory.atomic.wait32")
    with b.goto_entry_block():
        mine = b.alloca(SHORT)  # nobody else changes it
    mine.align, mine.type = 4, POINTER
    b.store(SHORT(0), mine, align=4)
    b.call(wait, [mine, SHORT(0), INT(_REST)])
    b.ret_void()


def yield_function() -> int:
    """Return the address of the system's function that yields the processor, or 0 where there is none."""
    library, name = ("kernel32", "SwitchToThread") if sys.platform == "win32" else (None, "sched_yield")
    function = getattr(ctypes.CDLL(library), name, None)
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function else 0
