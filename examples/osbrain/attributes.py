"""Attributes: given when the agent is made, set later, and seen by the agent itself."""

from ganglion import Agent, run_agent, run_nameserver


class Square(Agent):
    def on_init(self):
        self.area = self.side**2

    def describe(self):
        return f"{self.name}: {self.side} by {self.side} is {self.area}"


if __name__ == "__main__":
    ns = run_nameserver()

    plain = run_agent("Plain")
    plain.set_attr(x=1, y=2)
    print("set later:", plain.get_attr("x"), plain.get_attr("y"))

    given = run_agent("Given", attributes={"x": 3, "y": [4, {"five": 6}]})
    print("given:", given.get_attr("x"), given.get_attr("y"))

    given.x = "changed"
    print("assigned:", given.x, given.get_attr("x"))

    square = run_agent("Square", base=Square, attributes={"side": 12})
    print(square.describe())

    ns.shutdown()
