"""REQ binds: being the server is a matter of binding, not of the role. Here the server asks."""

from ganglion import run_agent, run_nameserver


def answer(agent, question):
    return f"{agent.name} says: {question.upper()}!"


if __name__ == "__main__":
    ns = run_nameserver()
    host = run_agent("Host")
    guest = run_agent("Guest")

    address = host.bind("REQ", alias="quiz")
    print("server is", address.kind, "and its client will be", address.twin().kind)
    guest.connect(address, handler=answer)

    for question in ("tea", "coffee", "neither"):
        print(host.send_recv("quiz", question))

    ns.shutdown()
