"""The same small programs on osBrain and on Ganglion: equal transcripts, or a line of docs/osbrain.md."""
