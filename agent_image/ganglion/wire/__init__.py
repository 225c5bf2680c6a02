"""Byte layouts: data frames between runtimes, and the messages of the control plane. Pure."""
