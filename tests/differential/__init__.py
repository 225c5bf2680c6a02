"""The same small programs on osBrain and on Ganglion (agents in processes, and in threads): equal transcripts, or a line of docs/osbrain.md."""
