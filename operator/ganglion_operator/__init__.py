"""The operator: reconciles NameServers, Channels and Agents into pods and services."""
