"""Agents made by a program at run time: name server, agents, proxies and sockets without manifests.

`addresses`, `frames`, `leases` and `settings` are pure; `calls` is the calling side, `ports` and `control` the called one; `sockets`,
`receiving`, `requests` and `core` stand behind an `Agent`; `host` forks processes; `proxy`, `agents` and `nameserver` are the API.
"""
