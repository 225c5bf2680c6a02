"""Timers tick in two agents; one is shut down, then the name server with all others."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import agent_dies, wait_agent_condition


def tick(agent):
    agent.ticks += 1


def has_ticked(agent, times):
    return agent.ticks >= times


if __name__ == "__main__":
    ns = run_nameserver()
    first = run_agent("First", attributes={"ticks": 0})
    second = run_agent("Second", attributes={"ticks": 0})

    first.each(0.05, tick, alias="clock")
    second.each(0.05, tick, alias="clock")
    print("both tick:", wait_agent_condition(first, has_ticked, 3), wait_agent_condition(second, has_ticked, 3))
    print("registered:", ns.agents())

    first.shutdown()
    print("the first has gone:", agent_dies("First", ns, timeout=5))
    print("registered:", ns.agents())

    ticks = second.get_attr("ticks")
    print("the second ticks on:", wait_agent_condition(second, has_ticked, ticks + 3))

    ns.shutdown()
    print("the name server has gone, and everybody with it")
