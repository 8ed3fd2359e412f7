"""The coach: code review, speed, architecture and what to do next, from measurement and tested rules."""
