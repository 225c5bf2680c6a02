"""Pure decisions: objects in, actions and statuses out. No I/O, no clock, no client library."""
