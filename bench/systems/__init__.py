"""The three systems that `bench.imperative` compares: one program on Ganglion and on osBrain, and the same work written on bare pyzmq.

Each is a process that reads commands (JSON lines: `{"do": NAME, ...}`) from standard input and writes one result (JSON line) for each.
"""
