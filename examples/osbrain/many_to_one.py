"""PULL binds: whatever its clients push arrives at the one server."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


def collect(agent, message):
    agent.box.append(message)


if __name__ == "__main__":
    ns = run_nameserver()
    office = run_agent("Office", attributes={"box": []})
    citizens = [run_agent(name) for name in ("Ann", "Ben", "Cid")]

    address = office.bind("PULL", alias="box", handler=collect)
    for citizen in citizens:
        citizen.connect(address, alias="post")

    for number in range(2):
        for citizen in citizens:
            citizen.send("post", f"letter {number} of {citizen.get_attr('name')}")

    wait_agent_attr(office, "box", length=6)
    for letter in sorted(office.get_attr("box")):
        print(letter)

    ns.shutdown()
