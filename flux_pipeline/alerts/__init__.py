"""Tells people, through webhooks, what went wrong: messages, their bodies, and the sender."""
