"""The way to an agent's end, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ganglion.sdk.lifecycle import BYE_SECONDS, COMPLETE_SECONDS, CUT_FLUSH_SECONDS, EXIT_INTERRUPTED, Facts, Lifecycle, Stage

NOTHING = Facts()
ALL = Facts(sources_done=True, inputs_at_rest=True, handlers_idle=True, outputs_at_rest=True, hook_done=True, bye_done=True)
ORDER = [Stage.INPUTS, Stage.HANDLERS, Stage.FLUSH, Stage.EXIT_HOOK, Stage.LAST_FLUSH, Stage.BYE, Stage.ENDED]


def _life(*, once: bool = False) -> Lifecycle:
    return Lifecycle(once=once, drain_seconds=20.0, domain_seconds=50.0)


def _run(life: Lifecycle, now: float, facts: Facts) -> list[Stage]:
    entered: list[Stage] = []
    for _ in range(len(Stage)):
        entered += life.advance(now, facts)
    return entered


@pytest.mark.parametrize("begin", ["complete", "flow", "leave"])
def test_every_end_goes_through_all_stages_in_order(begin: str) -> None:
    life = _life()
    if begin == "complete":
        life.complete(0.0, "done")
    elif begin == "flow":
        life.flow(0.0, 30.0, "")
    else:
        life.leave(0.0, "")
    assert _run(life, 0.0, ALL) == ORDER
    assert life.stage is Stage.ENDED
    assert life.exit_code == 0
    assert life.phase == "Stopped"


def test_nothing_happens_while_it_runs() -> None:
    life = _life()
    assert _run(life, 1e9, ALL) == []
    assert not life.ending


@pytest.mark.parametrize(
    ("fact", "stage"),
    [
        ("sources_done", Stage.SOURCES),
        ("inputs_at_rest", Stage.INPUTS),
        ("handlers_idle", Stage.HANDLERS),
        ("outputs_at_rest", Stage.FLUSH),
        ("hook_done", Stage.EXIT_HOOK),
        ("bye_done", Stage.BYE),
    ],
)
def test_with_the_flow_each_stage_waits_for_its_fact(fact: str, stage: Stage) -> None:
    life = _life()
    life.flow(0.0, 30.0, "")
    changes: dict[str, Any] = {fact: False}
    _run(life, 1.0, replace(ALL, **changes))
    assert life.stage is stage


def test_handlers_of_replies_end_before_the_hook_and_before_the_goodbye() -> None:
    life = _life()
    life.leave(0.0, "")
    _run(life, 0.0, replace(ALL, outputs_at_rest=False))
    assert _run(life, 0.1, replace(ALL, handlers_idle=False)) == []
    assert _run(life, 0.2, replace(ALL, hook_done=False)) == [Stage.EXIT_HOOK]
    assert _run(life, 0.3, replace(ALL, handlers_idle=False)) == [Stage.LAST_FLUSH]
    _run(life, 1e3, replace(ALL, handlers_idle=False))
    assert life.stage is Stage.ENDED
    assert not life.unsettled


def test_leaving_does_not_wait_for_senders() -> None:
    life = _life()
    life.leave(0.0, "")
    _run(life, 0.0, replace(ALL, inputs_at_rest=False))
    assert life.stage is Stage.ENDED
    assert not life.says_end


def test_leaving_ends_before_its_bound_whatever_hangs() -> None:
    life = _life()
    life.leave(100.0, "", seconds=10.0)
    now = 100.0
    while now < 110.0 and life.stage is not Stage.ENDED:
        life.advance(now, NOTHING)
        now += 0.1
    assert life.stage is Stage.ENDED
    assert life.unsettled
    assert life.forced_at == 110.0


def test_the_flow_becomes_leaving_at_its_bound() -> None:
    life = _life()
    life.flow(0.0, 30.0, "")
    facts = replace(NOTHING, sources_done=True)
    life.advance(29.9, facts)
    assert (life.stage, life.says_end, life.in_flow) == (Stage.INPUTS, True, True)
    life.advance(30.0, facts)
    assert (life.stage, life.says_end, life.in_flow) == (Stage.HANDLERS, False, False)
    assert life.forced_at == 50.0


def test_a_signal_does_not_cut_the_flow_short() -> None:
    life = _life()
    life.flow(0.0, 30.0, "")
    life.leave(1.0, "SIGTERM", gentle=True)
    assert life.forced_at == 50.0
    life.advance(29.9, replace(NOTHING, sources_done=True))
    assert life.in_flow
    life.advance(30.0, replace(NOTHING, sources_done=True))
    assert not life.in_flow
    assert life.forced_at == 50.0


def test_a_command_to_leave_does() -> None:
    life = _life()
    life.flow(0.0, 30.0, "")
    life.leave(1.0, "scaled down", seconds=5.0)
    assert not life.in_flow
    assert life.forced_at == 6.0
    life.leave(2.0, "again", seconds=100.0)
    assert life.forced_at == 6.0


def test_a_receiver_with_senders_goes_on_for_a_while_before_it_leaves() -> None:
    life = _life()
    life.leave(100.0, "SIGTERM", gentle=True, tarry=True)
    assert (life.in_flow, life.says_end, life.phase, life.forced_at) == (True, False, "Draining", 120.0)
    facts = replace(ALL, inputs_at_rest=False)
    assert _run(life, 101.9, facts) == [Stage.INPUTS]
    assert Stage.ENDED in _run(life, 102.0, facts)
    assert not life.says_end


def test_it_goes_on_for_a_quarter_of_a_short_bound() -> None:
    life = _life()
    life.leave(0.0, "", seconds=4.0, tarry=True)
    life.leave(0.5, "SIGTERM", gentle=True, tarry=True)
    life.expire(0.9)
    assert life.in_flow
    life.expire(1.0)
    assert (life.in_flow, life.forced_at) == (False, 4.0)


@pytest.mark.parametrize("why", ["at rest", "relieved", "own end", "failure"])
def test_it_leaves_as_soon_as_it_need_not_go_on(why: str) -> None:
    life = _life(once=True)
    life.leave(0.0, "", tarry=True)
    facts = replace(ALL, inputs_at_rest=why == "at rest")
    match why:
        case "relieved":
            assert life.relieve(0.1)
            assert not life.relieve(0.1)
        case "own end":
            life.complete(0.1, "the function returned")
        case "failure":
            life.leave(0.1, "", code=7)
        case _:
            pass
    _run(life, 0.1, facts)
    assert life.stage is Stage.ENDED
    assert life.exit_code == {"own end": 0, "failure": 7}.get(why, EXIT_INTERRUPTED)


def test_a_shutdown_makes_it_a_part_of_the_domains_end() -> None:
    life = _life()
    life.leave(0.0, "SIGTERM", gentle=True, tarry=True)
    assert not life.flow(1.0, 30.0, "")
    facts = replace(ALL, inputs_at_rest=False)
    _run(life, 29.9, facts)
    assert (life.stage, life.says_end) == (Stage.INPUTS, True)
    # What it has to leave in is over when the pod ends, which counts from the signal on.
    _run(life, 30.0, facts)
    assert (life.stage, life.forced_at) == (Stage.ENDED, 50.0)


def test_a_shutdown_that_comes_late_leaves_half_of_the_time_to_leave_in() -> None:
    life = _life()
    life.leave(0.0, "", gentle=True)
    _run(life, 0.0, Facts(sources_done=True))
    life._soft = 100.0
    assert life.flow(20.0, 30.0, "", back=True)
    assert life.forced_at == 50.0
    assert _run(life, 34.9, Facts(sources_done=True)) == []
    assert _run(life, 35.0, Facts(sources_done=True)) == [Stage.HANDLERS]


def test_nobody_goes_on_once_the_domain_has_ended() -> None:
    life = _life()
    life.flow(0.0, 30.0, "")
    life.leave(30.0, "half time", seconds=20.0, tarry=True)
    assert not life.in_flow


def test_completing_waits_long_for_acknowledgements_and_fails_without_them() -> None:
    life = _life(once=True)
    life.complete(0.0, "returned")
    unsettled = replace(ALL, outputs_at_rest=False)
    assert Stage.EXIT_HOOK not in _run(life, COMPLETE_SECONDS - 1, unsettled)
    assert _run(life, COMPLETE_SECONDS, unsettled)[-1] is Stage.ENDED
    assert not life.completed
    assert life.exit_code == 1


def test_a_shutdown_hurries_what_was_completing() -> None:
    life = _life(once=True)
    life.complete(0.0, "returned")
    life.flow(10.0, 30.0, "")
    now = 10.0
    while now < 60.0 and life.stage is not Stage.ENDED:
        now += 0.5
        life.advance(now, replace(ALL, outputs_at_rest=False))
    assert (life.unsettled, life.exit_code) == (True, 1)
    assert now < life.forced_at == 60.0


@pytest.mark.parametrize(
    ("once", "ends", "code", "completed"),
    [
        (True, ["complete"], 0, True),
        (True, ["leave"], EXIT_INTERRUPTED, False),
        (False, ["leave"], 0, False),
        (False, ["complete"], 0, False),
        (True, ["flow"], 0, False),
        (True, ["complete", "leave"], 0, True),
        (True, ["fail"], 7, False),
        (True, ["complete", "fail"], 7, False),
        (False, ["fail", "leave"], 7, False),
    ],
)
def test_exit_codes(once: bool, ends: list[str], code: int, completed: bool) -> None:
    life = _life(once=once)
    for end in ends:
        match end:
            case "complete":
                life.complete(0.0, "")
            case "flow":
                life.flow(0.0, 10.0, "")
            case "leave":
                life.leave(0.0, "")
            case _:
                life.leave(0.0, "", code=7)
    _run(life, 0.0, ALL)
    assert life.stage is Stage.ENDED
    assert (life.exit_code, life.completed) == (code, completed)


def test_blocked_user_code_is_overdue_before_the_process_is_forced_to_go() -> None:
    life = _life()
    assert not life.overdue(1e9)
    life.leave(0.0, "", seconds=10.0)
    assert not life.overdue(5.0)
    assert life.overdue(6.0)
    life.advance(6.0, replace(ALL, hook_done=False))
    life.advance(6.0, replace(ALL, hook_done=False))
    life.advance(6.0, replace(ALL, hook_done=False))
    assert life.stage is Stage.EXIT_HOOK
    assert not life.overdue(7.0)
    assert life.overdue(7.5)


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["complete", "flow", "leave", "signal", "tarry", "relieve", "fail", "look"]),
        st.floats(0, 30),
        st.builds(Facts, *[st.booleans()] * 6),
    ),
    max_size=30,
)


@example([("tarry", 0.0, Facts()), ("complete", 1.0, Facts()), ("relieve", 0.0, Facts())])
@given(_EVENTS)
def test_whatever_happens_it_moves_forward_and_ends_in_time(events: list[tuple[str, float, Facts]]) -> None:
    life = _life()
    now = 0.0
    last = life.stage
    forced = told = life.forced_at
    for kind, seconds, facts in events:
        now += seconds / 4
        match kind:
            case "complete":
                life.complete(now, "")
            case "flow":
                life.flow(now, seconds, "")
            case "leave":
                life.leave(now, "", seconds=seconds)
            case "signal":
                life.leave(now, "", gentle=True)
            case "tarry":
                life.leave(now, "", seconds=seconds, tarry=True)
            case "relieve":
                life.relieve(now)
            case "fail":
                life.leave(now, "", code=1)
            case _:
                life.advance(now, facts)
        told = min(told, now) if kind in ("leave", "signal", "tarry") else told
        assert life.stage >= last
        # Only the domain's end, of which it is a part, gives it more time; the pod ends so long after it was told to leave.
        assert life.forced_at <= (forced if kind != "flow" else told + 50.0)
        last, forced = life.stage, life.forced_at
    if life.ending:
        until = now + COMPLETE_SECONDS + 200 + BYE_SECONDS
        while now < until and life.stage is not Stage.ENDED:
            now += 1.0 if life.forced_at < until else 10.0
            life.advance(now, Facts())
        assert life.stage is Stage.ENDED


def test_a_leave_that_turns_out_to_be_the_domains_end_goes_back_to_its_inputs() -> None:
    life = _life()
    life.leave(0.0, "SIGTERM", gentle=True)
    _run(life, 0.0, NOTHING)
    _run(life, 0.0, Facts(sources_done=True))
    assert life.stage is Stage.HANDLERS
    assert life.flow(1.0, 30.0, "", back=True)
    assert (life.stage, life.in_flow, life.says_end) == (Stage.INPUTS, True, True)
    assert life.forced_at == 50.0
    assert _run(life, 29.9, Facts(sources_done=True)) == []
    assert _run(life, 30.0, Facts(sources_done=True)) == [Stage.HANDLERS]
    assert life.forced_at <= 50.0


@pytest.mark.parametrize("how", ["own", "failed", "late", "not asked"])
def test_a_leave_of_ones_own_or_a_late_one_stays_a_leave(how: str) -> None:
    life = _life()
    if how == "own":
        life.leave(0.0, "stop() was called")
    else:
        life.leave(0.0, "", gentle=True, code=int(how == "failed"))
    if how == "late":
        _run(life, 0.0, replace(ALL, hook_done=False))
        assert life.stage is Stage.EXIT_HOOK
    assert not life.flow(0.1, 30.0, "", back=how != "not asked")
    assert not life.in_flow


def test_waiting_in_vain_is_cut_short_only_while_the_domain_ends() -> None:
    life = _life()
    life.leave(0.0, "", seconds=20.0)
    life.cut_short(1.0, "", seconds=0.5)
    assert _run(life, 2.0, replace(ALL, outputs_at_rest=False)) == [Stage.INPUTS, Stage.HANDLERS, Stage.FLUSH]

    life = _life()
    life.flow(0.0, 30.0, "")
    assert _run(life, 1.0, Facts(sources_done=True)) == [Stage.INPUTS]
    life.cut_short(1.0, "", seconds=0.5)
    assert _run(life, 1.1, Facts()) == [Stage.HANDLERS]
    assert life.overdue(1.5)
    assert _run(life, 1.5, Facts()) == [Stage.FLUSH, Stage.EXIT_HOOK]
    # on_exit has its time.
    assert _run(life, 10.0, Facts()) == []
    assert _run(life, 10.0, Facts(hook_done=True)) == [Stage.LAST_FLUSH]
    assert _run(life, 10.0 + CUT_FLUSH_SECONDS, Facts(hook_done=True)) == [Stage.BYE]
    assert life.unsettled
    assert life.forced_at <= 50.0
