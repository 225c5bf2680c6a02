"""A proxy to a name server that runs already, by its address; and to an agent, by its name."""

from ganglion import NSProxy, Proxy, run_agent, run_nameserver

if __name__ == "__main__":
    started = run_nameserver()
    run_agent("Alice", attributes={"mood": "calm"})
    address = started.addr()

    ns = NSProxy(nsaddr=f"{address.host}:{address.port}")
    print("the same address:", ns.addr() == address)
    print("agents:", ns.agents())

    alice = ns.proxy("Alice")
    print("mood:", alice.get_attr("mood"))
    alice.set_attr(mood="cheerful")
    print("mood, asked by name:", Proxy("Alice", nsaddr=address).get_attr("mood"))

    ns.shutdown()
