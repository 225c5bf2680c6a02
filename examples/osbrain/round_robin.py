"""PUSH binds: messages go to its clients in turn."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_condition


def work(agent, task):
    agent.done.append(task)


if __name__ == "__main__":
    ns = run_nameserver()
    foreman = run_agent("Foreman")
    workers = [run_agent(f"Worker{number}", attributes={"done": []}) for number in range(2)]

    address = foreman.bind("PUSH", alias="tasks")
    for worker in workers:
        worker.connect(address, handler=work)

    def all_work():
        foreman.send("tasks", "warming up")
        return all(worker.get_attr("done") for worker in workers)

    def tasks_of(worker):
        return [task for task in worker.get_attr("done") if task != "warming up"]

    wait_condition(all_work, timeout=10)
    for number in range(10):
        foreman.send("tasks", number)
    wait_condition(lambda: sum(len(tasks_of(worker)) for worker in workers) == 10, timeout=10)
    for share in sorted(tasks_of(worker) for worker in workers):
        print("a worker's share:", share)

    ns.shutdown()
