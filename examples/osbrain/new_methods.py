"""Methods that a running agent gets from outside."""

from ganglion import run_agent, run_nameserver


def remember(self, number):
    self.numbers.append(number)


def total(self):
    return sum(self.numbers)


def scaled(self, factor=1):
    return self.total() * factor


if __name__ == "__main__":
    ns = run_nameserver()
    agent = run_agent("Example", attributes={"numbers": []})

    agent.set_method(remember, total, times=scaled)
    for number in (1, 2, 3.5):
        agent.remember(number)
    print("total:", agent.total())
    print("times four:", agent.times(factor=4))

    agent.set_method(total=lambda self: len(self.numbers))
    print("total, replaced:", agent.total())
    print("times four, with the new total:", agent.times(4))

    ns.shutdown()
