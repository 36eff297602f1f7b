"""Bands of rows, each for a thread, in LLVM's intermediate representation, and how threads wait for each other.

Between passes all threads wait until each is done. That may be a few microseconds, which is less than the system takes
to wake a thread: so they look again and again, and give their turn away only when it lasts.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen.stage import STAGE
from lkdn_deploy.jit.builder import INT, POINTER, Builder

BEGUN, DONE, GIVE_WAY = 0, 8, 16
"""Of the state that threads share, each in a line of the cache of its own: how many passes were begun, how many bands
of the others are done, and the system's function that gives a thread's turn away, or 0."""

STATE = 24
"""Integers of it."""

STOP = 2**62
"""As ``BEGUN``: the others are to leave."""

_IMPATIENCE = 5000
"""Looks before a thread gives its turn away: some ten microseconds."""

_VOID = ir.VoidType()
_GIVE_WAY = ir.FunctionType(_VOID, [])
BAND = ir.FunctionType(_VOID, [POINTER, INT, POINTER, INT, INT])
LEAD = ir.FunctionType(_VOID, [POINTER, INT, INT, POINTER, INT, POINTER, INT, INT])
FOLLOW = ir.FunctionType(_VOID, [POINTER, POINTER, INT, POINTER])


def emit_bands(module: ir.Module) -> None:
    """Add the functions that run stages over rows.

        void lead(state, pass, others, stages, count, geometry, first, last)
        void follow(state, bands, passes, geometry)

    ``lead`` begins a pass, does a band of it and waits until so many others have done theirs; ``follow`` does one of
    the other bands of all passes, when they are begun. ``stages`` has six integers for each: function, rows, weights,
    lag, and the first and last (exclusive) row it is to compute: step t computes row t - lag of each. ``bands`` has
    four for each pass: stages, their count, the first and last step.
    """
    band = _band(module)
    _lead(module, band)
    _follow(module, band)


def _band(module: ir.Module) -> ir.Function:
    function = ir.Function(module, BAND, "band")
    table, count, geometry, first, last = function.args
    b = Builder(function, 1)

    def step(t: Any, _: Sequence[Any]) -> Sequence[Any]:
        def stage(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            entry = b.gep(table, [b.mul(index, INT(6))], source_etype=INT)
            code, rows, weights, lag, low, high = _integers(b, entry, 6)
            y = b.sub(b.add(t, first), lag)
            inside = b.and_(b.icmp_signed(">=", y, low), b.icmp_signed("<", y, high))
            with b.if_then(inside):
                b.call(
                    b.inttoptr(code, STAGE.as_pointer()),
                    [b.inttoptr(rows, POINTER), b.inttoptr(weights, POINTER), geometry, y],
                )
            return []

        b.loop(count, [], stage)
        return []

    b.loop(b.sub(last, first), [], step)
    b.ret_void()
    return function


def _lead(module: ir.Module, band: ir.Function) -> None:
    function = ir.Function(module, LEAD, "lead")
    state, number, others, stages, count, geometry, first, last = function.args
    b = Builder(function, 1)
    begun = b.add(number, INT(1))
    b.atomic_rmw("xchg", _place(b, state, BEGUN), begun, "release")  # llvmlite's atomic store takes no such pointer
    b.call(band, [stages, count, geometry, first, last])
    wanted = b.mul(begun, others)
    _wait(b, state, DONE, lambda done: b.icmp_signed(">=", done, wanted))
    b.ret_void()


def _follow(module: ir.Module, band: ir.Function) -> None:
    function = ir.Function(module, FOLLOW, "follow")
    state, bands, passes, geometry = function.args
    b = Builder(function, 1)

    def one(number: Any, _: Sequence[Any]) -> Sequence[Any]:
        begun = _wait(b, state, BEGUN, lambda begun: b.icmp_signed(">", begun, number))
        with b.if_then(b.icmp_signed("==", begun, INT(STOP))):
            b.ret_void()
        stages, count, first, last = _integers(b, b.gep(bands, [b.mul(number, INT(4))], source_etype=INT), 4)
        b.call(band, [b.inttoptr(stages, POINTER), count, geometry, first, last])
        b.atomic_rmw("add", _place(b, state, DONE), INT(1), "release")
        return []

    b.loop(passes, [], one)
    b.ret_void()


def _wait(b: Builder, state: Any, of: int, enough: Callable[[Any], Any]) -> Any:
    """Until what is there is enough; gives it."""
    place = _place(b, state, of)
    give_way = b.load(_place(b, state, GIVE_WAY), typ=INT)
    known = b.icmp_signed("!=", give_way, INT(0))
    before = b.block
    look, again, leave, after = (b.append_basic_block(name) for name in ("look", "again", "leave", "after"))
    b.branch(look)
    b.position_at_end(look)
    looks = b.phi(INT)
    looks.add_incoming(INT(0), before)
    found = b.load_atomic(place, "acquire", 8, typ=INT)
    following = b.add(looks, INT(1))
    b.cbranch(enough(found), after, again)
    b.position_at_end(again)
    looks.add_incoming(following, again)
    b.cbranch(b.and_(known, b.icmp_signed(">", looks, INT(_IMPATIENCE))), leave, look)
    b.position_at_end(leave)
    b.call(b.inttoptr(give_way, _GIVE_WAY.as_pointer()), [])
    looks.add_incoming(following, leave)
    b.branch(look)
    b.position_at_end(after)
    return found


def _place(b: Builder, state: Any, of: int) -> Any:
    return b.gep(state, [INT(of)], source_etype=INT)


def _integers(b: Builder, start: Any, count: int) -> list[Any]:
    return [b.load(b.gep(start, [INT(place)], source_etype=INT), typ=INT) for place in range(count)]


def give_way() -> int:
    """The address of the system's function for it; 0 where there is none."""
    library, name = ("kernel32", "SwitchToThread") if sys.platform == "win32" else (None, "sched_yield")
    function = getattr(ctypes.CDLL(library), name, None)
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function else 0
