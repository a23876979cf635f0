"""Load while the service is changed: a program that writes and reads, and a check of its history afterwards."""
