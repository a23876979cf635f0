"""Brings what a server is configured with to what the inventory declares: declare, read, plan, apply."""
